# A role in IAM for each part of a deployment. All that is decided is decided in ./decisions.

module "decisions" {
  source = "./decisions"

  roles            = var.roles
  name_prefix      = var.name_prefix
  account_id       = var.account_id
  partition        = var.partition
  oidc_issuer      = var.oidc_issuer
  signing_key_arns = var.signing_key_arns
}

resource "aws_iam_role" "this" {
  for_each = var.roles

  name                 = module.decisions.names[each.key]
  description          = "mirrorwitness: ${each.key}"
  assume_role_policy   = module.decisions.trust[each.key]
  max_session_duration = 3600
  tags                 = var.tags
}

# Beside the role and not in it: what the witness signs with names the role, and is named here.
resource "aws_iam_role_policy" "this" {
  for_each = var.roles

  name   = "storage"
  role   = aws_iam_role.this[each.key].name
  policy = module.decisions.policies[each.key]
}

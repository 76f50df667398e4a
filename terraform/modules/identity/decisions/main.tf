# What each role may do, without a provider: which prefixes it reads, writes and removes, and who may take it on.
#
# - roles.json has the prefixes. tests/deploy/test_terraform_roles.py runs every command of every role over storages that
#   write down what is done, and holds the file to it, in both directions.
# - Whoever writes also reads: a swap compares with what is there, and what was written is looked at where the service
#   does not repeat its checksum.
# - Every role may list its bucket, with no condition on a prefix: Amazon says 404 for a missing key only to whoever may
#   list, asks with no prefix then, and 403 would be taken for a refusal.
# - Nobody may remove a version, change a policy, or write what another role signs.
# - A role is taken on by one service account of one namespace, and by no other.

terraform {
  required_version = ">= 1.9"
}

locals {
  known = jsondecode(file("${path.module}/roles.json"))

  # One entry for each bucket of each role.
  grants = {
    for role, each in var.roles : role => concat(
      [merge(local.known[role].storage, { arn = each.bucket_arn, sid = "Storage" })],
      each.anchor_bucket_arn == null ? [] : [merge(local.known[role].anchor, { arn = each.anchor_bucket_arn, sid = "Anchor" })],
    )
  }

  statements = {
    for role, grants in local.grants : role => flatten([
      for grant in grants : [
        [jsonencode({ Sid = "${grant.sid}List", Effect = "Allow", Action = ["s3:ListBucket"], Resource = [grant.arn] })],
        [
          for name, part in {
            Read   = { action = "s3:GetObject", prefixes = concat(grant.read, grant.write) }
            Write  = { action = "s3:PutObject", prefixes = grant.write }
            Remove = { action = "s3:DeleteObject", prefixes = grant.delete }
          } :
          jsonencode({
            Sid    = "${grant.sid}${name}"
            Effect = "Allow"
            Action = [part.action]
            # A prefix ends with a slash; whatever does not is one key.
            Resource = [for prefix in sort(part.prefixes) : endswith(prefix, "/") ? "${grant.arn}/${prefix}*" : "${grant.arn}/${prefix}"]
          }) if length(part.prefixes) > 0
        ],
      ]
    ])
  }

  sign = jsonencode({
    Sid      = "Sign"
    Effect   = "Allow"
    Action   = ["kms:GetPublicKey", "kms:Sign"]
    Resource = var.signing_key_arns
  })

  provider_arn = "arn:${var.partition}:iam::${var.account_id}:oidc-provider/${var.oidc_issuer}"
}

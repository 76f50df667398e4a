# The key that a witness signs with. All that is decided here is decided in ./decisions.

module "decisions" {
  source = "./decisions"

  algorithm            = var.algorithm
  key_name             = var.key_name
  alias                = var.alias
  signer_arn           = var.signer_arn
  administrator_arns   = var.administrator_arns
  deletion_window_days = var.deletion_window_days
}

resource "aws_kms_key" "this" {
  #checkov:skip=CKV_AWS_7:a key that signs cannot rotate; another key is another witness
  description              = "mirrorwitness: cosignatures of ${var.key_name}"
  key_usage                = "SIGN_VERIFY"
  customer_master_key_spec = module.decisions.key_spec
  deletion_window_in_days  = module.decisions.deletion_window_days
  policy                   = module.decisions.policy
  tags                     = var.tags
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.alias}"
  target_key_id = aws_kms_key.this.key_id
}

# A bucket for one role. All that is decided here is decided in ./decisions; this hands it to the provider.

module "decisions" {
  source = "./decisions"

  name                    = var.name
  kind                    = var.kind
  readers                 = var.readers
  edge_arns               = var.edge_arns
  partition               = var.partition
  conditional_writes_only = var.conditional_writes_only
  require_tls             = var.require_tls
  noncurrent_days         = var.noncurrent_days
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18:access logs of each request are the edge's; a mirror's jobs would write more logs than data
  #checkov:skip=CKV_AWS_144:what a mirror holds can be fetched again, and a witness has an anchor elsewhere, which is no copy
  #checkov:skip=CKV_AWS_145:whoever reads the public part has no key; it is encrypted with the service's own
  #checkov:skip=CKV2_AWS_62:nothing waits for events; the feed and the jobs are the clock
  #checkov:skip=CKV2_AWS_6:it has one, below; two of its four parts are off where readers = "everybody"
  bucket        = var.name
  force_destroy = var.force_destroy
  tags          = var.tags
}

# Policies are the only way in: no object has rights of its own.
resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  #checkov:skip=CKV_AWS_54:with readers = "everybody" the policy is public on purpose, for the public part alone
  #checkov:skip=CKV_AWS_56:the same: a policy that is public on purpose would be restricted to the account
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  ignore_public_acls      = true
  block_public_policy     = !module.decisions.is_public
  restrict_public_buckets = !module.decisions.is_public
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id
  versioning_configuration {
    status = var.versioning ? "Enabled" : "Suspended"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  #checkov:skip=CKV_AWS_300:the first rule does it; checkov does not look into dynamic blocks, decisions/tests does
  # Rules about replaced versions need versions.
  depends_on = [aws_s3_bucket_versioning.this]
  bucket     = aws_s3_bucket.this.id

  dynamic "rule" {
    for_each = module.decisions.lifecycle_rules
    content {
      id     = rule.value.id
      status = "Enabled"
      filter {
        prefix = rule.value.prefix
      }
      dynamic "abort_incomplete_multipart_upload" {
        for_each = rule.value.abort_days[*]
        content {
          days_after_initiation = abort_incomplete_multipart_upload.value
        }
      }
      dynamic "expiration" {
        for_each = rule.value.expire_days[*]
        content {
          days = expiration.value
        }
      }
      dynamic "noncurrent_version_expiration" {
        for_each = rule.value.noncurrent_days[*]
        content {
          noncurrent_days = noncurrent_version_expiration.value
        }
      }
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  # A public policy is refused while the block is on.
  depends_on = [aws_s3_bucket_public_access_block.this]
  bucket     = aws_s3_bucket.this.id
  policy     = module.decisions.policy
}

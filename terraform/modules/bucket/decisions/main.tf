# What is decided about a bucket, without a provider: who may do what to which keys, and what is removed when.
#
# - The public part is what kinds.json calls so. Nobody lists a bucket but roles and the distributions in front of it:
#   these need it, because Amazon says 403 instead of 404 for a missing key to whoever may not list.
# - Where everybody reads, a missing key is therefore 403. Clients of logs take that badly: put an edge in front.
# - Nothing ends by age but what failed: parts of uploads, and leftovers of store-check. Replaced versions end where they
#   are of no use; those of a witness never do, and evidence never does.
# - Nobody removes what `kept` names, or a version of it, roles and administrators included: an administrator has to change
#   this policy first, which is on record.

terraform {
  required_version = ">= 1.9"
}

locals {
  kind   = jsondecode(file("${path.module}/kinds.json"))[var.kind]
  arn    = "arn:${var.partition}:s3:::${var.name}"
  public = [for prefix in local.kind.public : "${local.arn}/${prefix}*"]

  # A prefix ends with a slash; whatever does not is one key.
  conditional = [for prefix in local.kind.conditional : endswith(prefix, "/") ? "${local.arn}/${prefix}*" : "${local.arn}/${prefix}"]
  kept        = [for prefix in local.kind.kept : endswith(prefix, "/") ? "${local.arn}/${prefix}*" : "${local.arn}/${prefix}"]

  tls = {
    Sid       = "TlsOnly"
    Effect    = "Deny"
    Principal = "*"
    Action    = "s3:*"
    Resource  = [local.arn, "${local.arn}/*"]
    Condition = { Bool = { "aws:SecureTransport" = "false" } }
  }
  conditions = {
    Sid       = "ConditionalWritesOnly"
    Effect    = "Deny"
    Principal = "*"
    Action    = "s3:PutObject"
    Resource  = local.conditional
    # Both are missing: neither "only where there is none" nor "only where it is still this one".
    Condition = { Null = { "s3:if-match" = "true", "s3:if-none-match" = "true" } }
  }
  keep = {
    Sid       = "KeepForEver"
    Effect    = "Deny"
    Principal = "*"
    Action    = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
    Resource  = local.kept
  }
  everybody = {
    Sid       = "PublicPart"
    Effect    = "Allow"
    Principal = "*"
    Action    = "s3:GetObject"
    Resource  = local.public
  }
  edge_read = {
    Sid       = "EdgeReadsPublicPart"
    Effect    = "Allow"
    Principal = { Service = "cloudfront.amazonaws.com" }
    Action    = "s3:GetObject"
    Resource  = local.public
    Condition = { ArnEquals = { "aws:SourceArn" = var.edge_arns } }
  }
  edge_miss = {
    Sid       = "EdgeLearnsWhatIsMissing"
    Effect    = "Allow"
    Principal = { Service = "cloudfront.amazonaws.com" }
    Action    = "s3:ListBucket"
    Resource  = local.arn
    Condition = { ArnEquals = { "aws:SourceArn" = var.edge_arns } }
  }

  # jsonencode makes one text of each, because a list of objects has to have objects of one type.
  statements = concat(
    var.require_tls ? [jsonencode(local.tls)] : [],
    var.conditional_writes_only ? [jsonencode(local.conditions)] : [],
    [jsonencode(local.keep)],
    var.readers == "everybody" ? [jsonencode(local.everybody)] : [],
    var.readers == "edge" && length(var.edge_arns) > 0 ? [jsonencode(local.edge_read), jsonencode(local.edge_miss)] : [],
  )

  uploads = [{ id = "unfinished-uploads", prefix = "", abort_days = 1, expire_days = null, noncurrent_days = null }]
  scratch = [{ id = "leftovers-of-store-check", prefix = "state/probe/", abort_days = null, expire_days = 1, noncurrent_days = 1 }]
  replaced = [
    for prefix in local.kind.versioned : {
      id              = "replaced-${trimsuffix(replace(prefix, "/", "-"), "-")}"
      prefix          = prefix
      abort_days      = null
      expire_days     = null
      noncurrent_days = var.noncurrent_days
    }
  ]
}

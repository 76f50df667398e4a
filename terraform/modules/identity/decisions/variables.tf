variable "roles" {
  description = <<-EOT
    The roles that are wanted, each with the ARNs of its buckets: mirror, mirror-reader, witness, sumdb, sumdb-reader.
    A witness has a second bucket, its anchor. The namespace is that of the overlay; the service account has the role's
    name there.
  EOT
  type = map(object({
    bucket_arn        = string
    anchor_bucket_arn = optional(string)
    namespace         = string
  }))

  validation {
    condition     = alltrue([for role in keys(var.roles) : contains(["mirror", "mirror-reader", "witness", "sumdb", "sumdb-reader"], role)])
    error_message = "The roles are mirror, mirror-reader, witness, sumdb and sumdb-reader."
  }
  validation {
    condition     = alltrue([for role, each in var.roles : (each.anchor_bucket_arn != null) == (role == "witness")])
    error_message = "A witness, and nobody else, has an anchor_bucket_arn."
  }
  validation {
    condition     = alltrue([for each in var.roles : each.anchor_bucket_arn != each.bucket_arn])
    error_message = "The anchor is a bucket of its own: in the same one it would be restored together with the state."
  }
  validation {
    condition = alltrue(flatten([
      for each in var.roles : [
        for arn in compact([each.bucket_arn, each.anchor_bucket_arn]) : can(regex("^arn:aws[a-z-]*:s3:::[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", arn))
      ]
    ]))
    error_message = "A bucket's ARN is arn:aws:s3:::NAME, without a key."
  }
  validation {
    condition     = alltrue([for each in var.roles : can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", each.namespace))])
    error_message = "A namespace is a DNS label."
  }
}

variable "name_prefix" {
  description = "What the names of the roles begin with; the role's own name follows."
  type        = string
  default     = "mirrorwitness-"

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{1,50}$", var.name_prefix))
    error_message = "1 to 50 of A-Z, a-z, 0-9 and +=,.@_-."
  }
}

variable "account_id" {
  description = "The account that the roles are in, 12 digits."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "An account's ID has 12 digits."
  }
}

variable "partition" {
  description = "The cloud's partition, the second part of its ARNs: aws, aws-us-gov or aws-cn."
  type        = string
  default     = "aws"

  validation {
    condition     = contains(["aws", "aws-us-gov", "aws-cn"], var.partition)
    error_message = "The partition is aws, aws-us-gov or aws-cn."
  }
}

variable "oidc_issuer" {
  description = "Host and path of the cluster's token issuer, without https://; its OIDC provider is in the account."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9.-]+(/[A-Za-z0-9._/-]+)?$", var.oidc_issuer))
    error_message = "The issuer is HOST/PATH, without https:// and without a slash at its end."
  }
}

variable "signing_key_arns" {
  description = "ARNs of the keys in KMS that the witness signs with; none where it has a key file."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.signing_key_arns : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", arn))])
    error_message = "Each is the ARN of a key, not of an alias: what an alias points to can change."
  }
}

variable "name" {
  description = "Name of the bucket: 3 to 63 of a-z, 0-9 and -, no dot (names with dots have no certificate at Amazon)."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "The name has 3 to 63 of a-z, 0-9 and -, and neither begins nor ends with -."
  }
  validation {
    condition     = !can(regex("^xn--|^sthree-|-s3alias$|--ol-s3$|--x-s3$", var.name))
    error_message = "Amazon keeps names that begin with xn-- or sthree-, or end with -s3alias, --ol-s3 or --x-s3."
  }
}

variable "kind" {
  description = "What is kept there: mirror, sumdb, witness, anchor (a witness's second bucket) or logmirror."
  type        = string

  validation {
    condition     = contains(["mirror", "sumdb", "witness", "anchor", "logmirror"], var.kind)
    error_message = "The kind is mirror, sumdb, witness, anchor or logmirror; each has a bucket of its own."
  }
}

variable "readers" {
  description = <<-EOT
    Who may read the public part: nobody (roles alone), edge (the distributions of edge_arns), or everybody.
    The rest, state and evidence, is for roles alone, whatever this says.
  EOT
  type        = string
  default     = "nobody"

  validation {
    condition     = contains(["nobody", "edge", "everybody"], var.readers)
    error_message = "The readers are nobody, edge or everybody."
  }
}

variable "edge_arns" {
  description = "ARNs of the distributions that read the public part, where readers is edge."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.edge_arns : can(regex("^arn:aws[a-z-]*:cloudfront::[0-9]{12}:distribution/[A-Z0-9]+$", arn))])
    error_message = "Each is the ARN of a CloudFront distribution, arn:aws:cloudfront::ACCOUNT:distribution/ID."
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

variable "conditional_writes_only" {
  description = <<-EOT
    Refuse a write without a condition where the software never makes one: state that is swapped, evidence. What is
    refused then is a tool that copies an old state back, which a witness does not survive. Amazon knows the conditions
    s3:if-match and s3:if-none-match; a service that does not would refuse every write, so it is to be off there.
  EOT
  type        = bool
  default     = true
}

variable "require_tls" {
  description = "Refuse requests without TLS. Off only for a service on the same machine."
  type        = bool
  default     = true
}

variable "noncurrent_days" {
  description = "Days for which replaced and removed objects are kept, where anything but history can be made of them."
  type        = number
  default     = 14

  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days <= 3650 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "A whole number of days, 1 to 3650."
  }
}

variable "versioning" {
  description = "Keep what was replaced or removed (lifecycle rules say how long). Off costs a mirror its way back."
  type        = bool
  default     = true
}

variable "force_destroy" {
  description = "Let `terraform destroy` remove a bucket that is not empty. For trials only."
  type        = bool
  default     = false

  validation {
    condition     = !(var.force_destroy && contains(["witness", "anchor", "sumdb", "logmirror"], var.kind))
    error_message = "What a witness, a log or a log mirror signed is never thrown away with its bucket; empty it by hand."
  }
}

variable "tags" {
  description = "Tags of everything that can have some."
  type        = map(string)
  default     = {}
}

variable "organization" {
  description = "What names begin with: small letters, digits and -."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}$", var.organization))
    error_message = "2 to 41 of a-z, 0-9 and -, beginning with a letter."
  }
}

variable "region" {
  description = "Where the buckets and the key are."
  type        = string
  default     = "eu-central-1"
}

variable "anchor_region" {
  description = "Where the witness's anchor is."
  type        = string
  default     = "eu-west-1"

  validation {
    condition     = var.anchor_region != var.region
    error_message = "The anchor is in another region than the witness's state: it is never lost or restored with it."
  }
}

variable "account_id" {
  description = "The account, 12 digits."
  type        = string
}

variable "oidc_issuer" {
  description = "Host and path of the cluster's token issuer, without https://."
  type        = string
}

variable "administrator_arns" {
  description = "Who looks after the witness's key, and cannot sign with it; the role that runs terraform is one of them."
  type        = list(string)
}

variable "registry" {
  description = "The registry that is mirrored and logged."
  type        = string

  validation {
    condition     = can(regex("^https://[^/]+", var.registry)) && !endswith(var.registry, "/")
    error_message = "The registry is https://HOST, without a slash at its end."
  }
}

variable "contact" {
  description = "How the registry's operator reaches you; in the User-Agent."
  type        = string
}

variable "witness_name" {
  description = "The name in the witness's signature lines, like witness.example/w1."
  type        = string
}

variable "polled_log" {
  description = "The log that the witness polls, VKEY=URL. Yours, or a friend's."
  type        = string
}

variable "endpoint" {
  description = "URL of the S3 service, where it is not Amazon's."
  type        = string
  default     = null
}

variable "anchor_endpoint" {
  description = "URL of the anchor's S3 service, where it is not Amazon's; another one than endpoint."
  type        = string
  default     = null
}

variable "conditional_writes_only" {
  description = "See the module bucket. Off where the service does not know s3:if-match."
  type        = bool
  default     = true
}

variable "require_tls" {
  description = "See the module bucket."
  type        = bool
  default     = true
}

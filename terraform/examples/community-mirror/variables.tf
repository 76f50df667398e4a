variable "bucket" {
  description = "Name of the bucket; nobody else at Amazon has it."
  type        = string
}

variable "region" {
  description = "Where the bucket is."
  type        = string
  default     = "us-east-1"
}

variable "account_id" {
  description = "The account, 12 digits."
  type        = string
}

variable "oidc_issuer" {
  description = "Host and path of the cluster's token issuer, without https://."
  type        = string
}

variable "registry" {
  description = "The registry that is mirrored."
  type        = string

  validation {
    condition     = can(regex("^https://[^/]+", var.registry)) && !endswith(var.registry, "/")
    error_message = "The registry is https://HOST, without a slash at its end."
  }
}

variable "contact" {
  description = "How the registry's operator reaches you; in the User-Agent."
  type        = string

  validation {
    condition     = can(regex("^[^\\s=]+$", var.contact))
    error_message = "The contact is an address without spaces."
  }
}

variable "host_name" {
  description = "The mirror's host name, an alias of the edge in the DNS. None: the edge's own."
  type        = string
  default     = null
}

variable "certificate_arn" {
  description = "ARN of the host name's certificate in us-east-1."
  type        = string
  default     = null
}

variable "endpoint" {
  description = "URL of the S3 service, where it is not Amazon's."
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

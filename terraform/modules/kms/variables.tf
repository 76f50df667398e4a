variable "algorithm" {
  description = "What the key signs: Ed25519 (cosignature/v1, understood by everybody) or ML-DSA-44 (post-quantum)."
  type        = string
  default     = "Ed25519"

  validation {
    condition     = contains(["Ed25519", "ML-DSA-44"], var.algorithm)
    error_message = "The algorithm is Ed25519 or ML-DSA-44."
  }
}

variable "key_name" {
  description = "The name in the witness's signature lines, like witness.example/w1. KMS has none; it is for ever."
  type        = string

  validation {
    condition     = can(regex("^[^\\s+]{1,255}$", var.key_name))
    error_message = "A key's name has neither spaces nor +."
  }
}

variable "alias" {
  description = "Alias for people, without alias/. The witness is given the key's ARN."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9/_-]{1,240}$", var.alias)) && !startswith(var.alias, "aws/")
    error_message = "1 to 240 of A-Z, a-z, 0-9 and /_-; aws/ is Amazon's."
  }
}

variable "signer_arn" {
  description = "ARN of the witness's role: it signs, and nobody else does."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@/_-]+$", var.signer_arn))
    error_message = "The ARN of one role, arn:aws:iam::ACCOUNT:role/NAME."
  }
}

variable "administrator_arns" {
  description = "ARNs of the roles that look after the key: read, tag, disable, schedule its deletion. They cannot sign."
  type        = list(string)

  validation {
    condition     = length(var.administrator_arns) > 0 && alltrue([for arn in var.administrator_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role/.+|root)$", arn))])
    error_message = "At least one, each the ARN of a role or of the account's root: a key that nobody administers is lost."
  }
}

variable "deletion_window_days" {
  description = "Days between the order to delete the key and its end, in which it can be taken back: 7 to 30."
  type        = number
  default     = 30

  validation {
    condition     = var.deletion_window_days >= 7 && var.deletion_window_days <= 30 && floor(var.deletion_window_days) == var.deletion_window_days
    error_message = "A whole number of days, 7 to 30."
  }
}

variable "tags" {
  description = "Tags of everything that can have some."
  type        = map(string)
  default     = {}
}

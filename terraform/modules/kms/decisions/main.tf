# What is decided about the key of a witness, without a provider.
#
# - The witness's role signs, in the one way that mirrorwitness asks for: the message itself (RAW) with the key's own
#   algorithm. A digest that somebody else made is not signed.
# - For everybody else signing is denied, administrators and the account's root included. They can change this policy, and
#   that is on record.
# - The key is made in KMS and never leaves it: nothing can be imported into it, and KMS gives no private key away.
# - It does not rotate by itself: another key is another witness to everybody who trusts it (docs/witness.md).

terraform {
  required_version = ">= 1.9"
}

locals {
  # As mirrorwitness/run/kms.py asks for them.
  specs = {
    "Ed25519"   = { key = "ECC_NIST_EDWARDS25519", signing = "ED25519_SHA_512" }
    "ML-DSA-44" = { key = "ML_DSA_44", signing = "ML_DSA_SHAKE_256" }
  }
  spec = local.specs[var.algorithm]

  administration = [
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:EnableKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:GetPublicKey",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
  ]

  policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Administer"
        Effect    = "Allow"
        Principal = { AWS = var.administrator_arns }
        Action    = local.administration
        Resource  = "*"
      },
      {
        Sid       = "ReadPublicKey"
        Effect    = "Allow"
        Principal = { AWS = [var.signer_arn] }
        Action    = ["kms:GetPublicKey"]
        Resource  = "*"
      },
      {
        Sid       = "Sign"
        Effect    = "Allow"
        Principal = { AWS = [var.signer_arn] }
        Action    = ["kms:Sign"]
        Resource  = "*"
        Condition = { StringEquals = { "kms:MessageType" = "RAW", "kms:SigningAlgorithm" = local.spec.signing } }
      },
      {
        Sid       = "NobodyElseSigns"
        Effect    = "Deny"
        Principal = { AWS = ["*"] }
        Action    = ["kms:Sign", "kms:CreateGrant", "kms:ImportKeyMaterial", "kms:GetParametersForImport", "kms:ReplicateKey"]
        Resource  = "*"
        Condition = { ArnNotEquals = { "aws:PrincipalArn" = [var.signer_arn] } }
      },
    ]
  }
}

# The decisions about the key of a witness, without a provider: `terraform test` in this module's folder.

variables {
  key_name           = "witness.example/w1"
  alias              = "mirrorwitness/w1"
  signer_arn         = "arn:aws:iam::111122223333:role/mirrorwitness-witness"
  administrator_arns = ["arn:aws:iam::111122223333:role/keepers"]
}

run "the_witness_signs_and_nobody_else" {
  command = apply

  assert {
    condition = jsonencode([for each in jsondecode(output.policy).Statement : [each.Principal.AWS, each.Condition] if each.Effect == "Allow" && contains(each.Action, "kms:Sign")]) == jsonencode([[
      ["arn:aws:iam::111122223333:role/mirrorwitness-witness"],
      { StringEquals = { "kms:MessageType" = "RAW", "kms:SigningAlgorithm" = "ED25519_SHA_512" } },
    ]])
    error_message = "Somebody else may sign, or something else than a message."
  }
  assert {
    condition = jsonencode([for each in jsondecode(output.policy).Statement : [each.Principal.AWS, each.Condition, contains(each.Action, "kms:Sign")] if each.Effect == "Deny"]) == jsonencode([[
      ["*"], { ArnNotEquals = { "aws:PrincipalArn" = ["arn:aws:iam::111122223333:role/mirrorwitness-witness"] } }, true,
    ]])
    error_message = "Signing is not denied to the others."
  }
}

run "administrators_can_take_a_deletion_back_and_change_the_policy" {
  command = apply

  assert {
    condition = length(setsubtract(
      ["kms:PutKeyPolicy", "kms:CancelKeyDeletion", "kms:DisableKey"],
      one([for each in jsondecode(output.policy).Statement : each.Action if each.Sid == "Administer"]),
    )) == 0
    error_message = "The key could be locked away from its administrators."
  }
  assert {
    condition     = !strcontains(output.policy, "kms:*")
    error_message = "Somebody may do everything."
  }
  assert {
    condition     = output.deletion_window_days == 30
    error_message = "A deletion cannot be taken back for as long as KMS allows."
  }
}

run "ed25519" {
  command = apply

  assert {
    condition     = output.key_spec == "ECC_NIST_EDWARDS25519"
    error_message = "Another kind of key than the witness signs with."
  }
  assert {
    condition     = output.address_options == "?name=witness.example%2Fw1"
    error_message = "The name in the address is another one."
  }
}

run "ml_dsa_44" {
  command = apply
  variables { algorithm = "ML-DSA-44" }

  assert {
    condition     = output.key_spec == "ML_DSA_44" && strcontains(output.policy, "ML_DSA_SHAKE_256") && !strcontains(output.policy, "ED25519_SHA_512")
    error_message = "The key and its policy are of different algorithms."
  }
}

run "an_algorithm_that_no_witness_has" {
  command = plan
  variables { algorithm = "RSA" }
  expect_failures = [var.algorithm]
}

run "a_name_with_a_plus" {
  command = plan
  variables { key_name = "witness.example+w1" }
  expect_failures = [var.key_name]
}

run "everybody_is_no_signer" {
  command = plan
  variables { signer_arn = "*" }
  expect_failures = [var.signer_arn]
}

run "a_key_that_nobody_administers" {
  command = plan
  variables { administrator_arns = [] }
  expect_failures = [var.administrator_arns]
}

run "a_deletion_at_once" {
  command = plan
  variables { deletion_window_days = 1 }
  expect_failures = [var.deletion_window_days]
}

run "an_alias_of_amazons" {
  command = plan
  variables { alias = "aws/s3" }
  expect_failures = [var.alias]
}

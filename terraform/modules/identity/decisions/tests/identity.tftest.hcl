# The decisions about roles, without a provider: `terraform test` in this module's folder.

variables {
  account_id  = "111122223333"
  oidc_issuer = "oidc.example/id/EXAMPLE"
  roles = {
    mirror        = { bucket_arn = "arn:aws:s3:::npm-mirror", namespace = "npm-mirror" }
    mirror-reader = { bucket_arn = "arn:aws:s3:::npm-mirror", namespace = "npm-mirror" }
    witness = {
      bucket_arn        = "arn:aws:s3:::tlog-witness"
      anchor_bucket_arn = "arn:aws:s3:::tlog-anchor"
      namespace         = "tlog-witness"
    }
    sumdb        = { bucket_arn = "arn:aws:s3:::npm-sumdb", namespace = "npm-sumdb" }
    sumdb-reader = { bucket_arn = "arn:aws:s3:::npm-sumdb", namespace = "npm-sumdb" }
  }
}

run "readers_read_and_list_and_nothing_else" {
  command = apply

  assert {
    condition = alltrue(flatten([
      for role in ["mirror-reader", "sumdb-reader"] : [
        for each in jsondecode(output.policies[role]).Statement : contains(["s3:GetObject", "s3:ListBucket"], one(each.Action))
      ]
    ]))
    error_message = "A reader may do more than read and list."
  }
}

run "nobody_has_more_than_five_actions_and_none_by_a_wildcard" {
  command = apply
  variables { signing_key_arns = ["arn:aws:kms:eu-central-1:111122223333:key/0000-1111"] }

  assert {
    condition = toset(flatten([for policy in output.policies : [for each in jsondecode(policy).Statement : each.Action]])) == toset([
      "kms:GetPublicKey", "kms:Sign", "s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject",
    ])
    error_message = "Some role may do something else."
  }
  assert {
    condition = !anytrue(flatten([
      for policy in output.policies : [for each in jsondecode(policy).Statement : [for arn in each.Resource : endswith(arn, ":*") || can(regex("^arn:aws:s3:::[^/]+/\\*$", arn))]]
    ]))
    error_message = "Some role may do something with everything."
  }
}

run "the_witness_alone_signs" {
  command = apply
  variables { signing_key_arns = ["arn:aws:kms:eu-central-1:111122223333:key/0000-1111"] }

  assert {
    condition     = [for role, policy in output.policies : role if strcontains(policy, "kms:Sign")] == ["witness"]
    error_message = "Not the witness, or another role as well, may sign."
  }
}

run "without_keys_in_kms_nobody_signs" {
  command = apply

  assert {
    condition     = !anytrue([for policy in output.policies : strcontains(policy, "kms:")])
    error_message = "Somebody may do something with keys that are not there."
  }
}

run "roles_stay_in_their_buckets" {
  command = apply

  assert {
    condition = jsonencode({
      for role, policy in output.policies : role => distinct(flatten([
        for each in jsondecode(policy).Statement : [for arn in each.Resource : split("/", arn)[0]]
      ]))
      }) == jsonencode({
      mirror        = ["arn:aws:s3:::npm-mirror"]
      mirror-reader = ["arn:aws:s3:::npm-mirror"]
      sumdb         = ["arn:aws:s3:::npm-sumdb"]
      sumdb-reader  = ["arn:aws:s3:::npm-sumdb"]
      witness       = ["arn:aws:s3:::tlog-witness", "arn:aws:s3:::tlog-anchor"]
    })
    error_message = "A role reaches another role's bucket."
  }
}

run "a_witness_removes_leftovers_of_probes_alone" {
  command = apply

  assert {
    condition = flatten([for each in jsondecode(output.policies["witness"]).Statement : each.Resource if contains(each.Action, "s3:DeleteObject")]) == [
      "arn:aws:s3:::tlog-witness/state/probe/*", "arn:aws:s3:::tlog-anchor/state/probe/*"
    ]
    error_message = "A witness may remove something else."
  }
}

run "one_service_account_takes_a_role_on" {
  command = apply

  assert {
    condition = jsondecode(output.trust["sumdb-reader"]).Statement == [{
      Effect    = "Allow"
      Principal = { Federated = "arn:aws:iam::111122223333:oidc-provider/oidc.example/id/EXAMPLE" }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "oidc.example/id/EXAMPLE:aud" = "sts.amazonaws.com"
          "oidc.example/id/EXAMPLE:sub" = "system:serviceaccount:npm-sumdb:sumdb-reader"
        }
      }
    }]
    error_message = "Somebody else may take the role on."
  }
}

run "a_role_that_there_is_not" {
  command = plan
  variables { roles = { admin = { bucket_arn = "arn:aws:s3:::npm-mirror", namespace = "npm-mirror" } } }
  expect_failures = [var.roles]
}

run "a_witness_without_an_anchor" {
  command = plan
  variables { roles = { witness = { bucket_arn = "arn:aws:s3:::tlog-witness", namespace = "tlog-witness" } } }
  expect_failures = [var.roles]
}

run "an_anchor_in_the_same_bucket" {
  command = plan
  variables {
    roles = { witness = { bucket_arn = "arn:aws:s3:::tlog-witness", anchor_bucket_arn = "arn:aws:s3:::tlog-witness", namespace = "tlog-witness" } }
  }
  expect_failures = [var.roles]
}

run "a_bucket_with_a_key" {
  command = plan
  variables { roles = { mirror = { bucket_arn = "arn:aws:s3:::npm-mirror/*", namespace = "npm-mirror" } } }
  expect_failures = [var.roles]
}

run "a_namespace_for_all" {
  command = plan
  variables { roles = { mirror = { bucket_arn = "arn:aws:s3:::npm-mirror", namespace = "*" } } }
  expect_failures = [var.roles]
}

run "an_issuer_with_a_scheme" {
  command = plan
  variables { oidc_issuer = "https://oidc.example/id/EXAMPLE" }
  expect_failures = [var.oidc_issuer]
}

run "an_alias_is_no_key" {
  command = plan
  variables { signing_key_arns = ["arn:aws:kms:eu-central-1:111122223333:alias/witness"] }
  expect_failures = [var.signing_key_arns]
}

run "an_account_with_dashes" {
  command = plan
  variables { account_id = "1111-2222-3333" }
  expect_failures = [var.account_id]
}

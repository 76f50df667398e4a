# The decisions about buckets, without a provider: `terraform test` in this module's folder.

variables {
  name = "npm-mirror"
  kind = "mirror"
}

run "nobody_reads_a_private_bucket" {
  command = apply

  assert {
    condition     = !anytrue([for each in jsondecode(output.policy).Statement : each.Effect == "Allow"])
    error_message = "The policy of a private bucket allows something."
  }
  assert {
    condition     = !output.is_public
    error_message = "A private bucket calls itself public."
  }
  assert {
    condition     = jsondecode(output.policy).Version == "2012-10-17"
    error_message = "The policy's language is another one."
  }
}

run "everybody_reads_the_public_part_alone" {
  command = apply
  variables { readers = "everybody" }

  assert {
    condition = [for each in jsondecode(output.policy).Statement : [each.Action, each.Resource] if each.Effect == "Allow"] == [
      ["s3:GetObject", ["arn:aws:s3:::npm-mirror/npm/*", "arn:aws:s3:::npm-mirror/about/*"]]
    ]
    error_message = "Everybody may do something else than get what is public."
  }
}

run "an_edge_reads_and_learns_what_is_missing" {
  command = apply
  variables {
    readers   = "edge"
    edge_arns = ["arn:aws:cloudfront::111122223333:distribution/E1EXAMPLE"]
  }

  assert {
    condition     = [for each in jsondecode(output.policy).Statement : each.Action if each.Effect == "Allow"] == ["s3:GetObject", "s3:ListBucket"]
    error_message = "The edge may do other things."
  }
  assert {
    condition = alltrue([
      for each in jsondecode(output.policy).Statement :
      each.Condition.ArnEquals["aws:SourceArn"] == ["arn:aws:cloudfront::111122223333:distribution/E1EXAMPLE"]
      if each.Effect == "Allow"
    ])
    error_message = "Any distribution of anybody's may read."
  }
}

run "an_edge_that_is_not_there_yet_is_nobody" {
  command = apply
  variables { readers = "edge" }

  assert {
    condition     = !anytrue([for each in jsondecode(output.policy).Statement : each.Effect == "Allow"])
    error_message = "Something is allowed before there is a distribution."
  }
}

run "state_is_never_public" {
  command = apply
  variables {
    name    = "tlog-witness"
    kind    = "witness"
    readers = "everybody"
  }

  assert {
    condition     = output.public_prefixes == ["witness/"]
    error_message = "More than the monitoring prefix of a witness is public."
  }
  assert {
    condition     = !strcontains(jsonencode([for each in jsondecode(output.policy).Statement : each.Resource if each.Effect == "Allow"]), "state/")
    error_message = "State is public."
  }
}

run "what_a_witness_wrote_is_never_removed" {
  command = apply
  variables {
    name = "tlog-witness"
    kind = "witness"
  }

  assert {
    condition     = [for rule in output.lifecycle_rules : rule.id] == ["unfinished-uploads", "leftovers-of-store-check"]
    error_message = "A rule removes something of a witness."
  }
  assert {
    condition = toset(one([for each in jsondecode(output.policy).Statement : each.Resource if each.Sid == "KeepForEver"])) == toset([
      "arn:aws:s3:::tlog-witness/state/witness/*",
      "arn:aws:s3:::tlog-witness/witness/*",
      "arn:aws:s3:::tlog-witness/evidence/*",
    ])
    error_message = "State, checkpoints or evidence of a witness can be removed."
  }
  assert {
    condition     = one([for each in jsondecode(output.policy).Statement : each.Condition.Null if each.Sid == "ConditionalWritesOnly"]) == { "s3:if-match" = "true", "s3:if-none-match" = "true" }
    error_message = "A witness's state can be written without a condition."
  }
}

run "nothing_ends_by_age_but_what_failed" {
  command = apply

  assert {
    condition     = [for rule in output.lifecycle_rules : rule.prefix if rule.expire_days != null] == ["state/probe/"]
    error_message = "Something ends by age."
  }
  assert {
    condition     = !anytrue([for rule in output.lifecycle_rules : startswith(rule.prefix, "evidence") || startswith("evidence/", rule.prefix) && rule.prefix != ""])
    error_message = "A rule is about evidence."
  }
  assert {
    condition     = alltrue([for rule in output.lifecycle_rules : rule.noncurrent_days == 14 if startswith(rule.id, "replaced-")])
    error_message = "Replaced versions end after another time than the default."
  }
}

run "conditions_are_off_where_a_service_has_none" {
  command = apply
  variables {
    conditional_writes_only = false
    require_tls             = false
  }

  assert {
    condition     = [for each in jsondecode(output.policy).Statement : each.Sid] == ["KeepForEver"]
    error_message = "Something else than what is kept is denied."
  }
}

run "another_partition" {
  command = apply
  variables { partition = "aws-us-gov" }

  assert {
    condition     = output.arn == "arn:aws-us-gov:s3:::npm-mirror"
    error_message = "The ARN is of another partition."
  }
}

run "a_name_that_no_bucket_has" {
  command = plan
  variables { name = "Npm_Mirror" }
  expect_failures = [var.name]
}

run "a_name_that_amazon_keeps" {
  command = plan
  variables { name = "mirror-s3alias" }
  expect_failures = [var.name]
}

run "a_kind_that_there_is_not" {
  command = plan
  variables { kind = "everything" }
  expect_failures = [var.kind]
}

run "readers_that_there_are_not" {
  command = plan
  variables { readers = "public" }
  expect_failures = [var.readers]
}

run "an_edge_that_is_none" {
  command = plan
  variables { edge_arns = ["*"] }
  expect_failures = [var.edge_arns]
}

run "half_a_day" {
  command = plan
  variables { noncurrent_days = 0.5 }
  expect_failures = [var.noncurrent_days]
}

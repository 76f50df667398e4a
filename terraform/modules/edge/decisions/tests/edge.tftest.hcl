# The decisions about edges, without a provider: `terraform test` in this module's folder.
# What the path rule does with paths is tested where JavaScript runs: tests/real/test_terraform.py.

variables {
  kind = "registry"
  name = "npm-mirror"
}

run "bytes_for_a_year_documents_for_five_minutes" {
  command = apply

  assert {
    condition     = jsonencode([for class in output.classes : [class.pattern, class.seconds]]) == jsonencode([["*/-/*.tgz", 31536000], ["*.tlog-proof", 31536000], ["/-/summary/*", 31536000], ["*", 300]])
    error_message = "Something is cached for another time."
  }
  assert {
    condition     = strcontains(output.ages["fixed"][0], "value: 'public, max-age=31536000, immutable'")
    error_message = "Clients are told something else."
  }
}

run "heads_are_never_old" {
  command = apply
  variables { kind = "log" }

  assert {
    condition     = jsonencode([for class in output.classes : [class.pattern, class.seconds]]) == jsonencode([["/tile/*", 31536000], ["*", 5]])
    error_message = "A checkpoint is cached for longer than 5 s."
  }
}

run "the_last_class_fits_all" {
  command = apply
  variables { kind = "monitoring" }

  assert {
    condition     = output.classes[length(output.classes) - 1].pattern == "*"
    error_message = "Some path has no class."
  }
}

run "the_rule_knows_what_it_is_for" {
  command = apply
  variables { kind = "logmirror" }

  assert {
    condition     = strcontains(output.path_rule, "var KIND = 'logmirror';") && !strcontains(output.path_rule, "{{")
    error_message = "The rule is for something else."
  }
  assert {
    condition     = length(output.path_rule) < 10240
    error_message = "The service takes functions of 10 KB at most."
  }
}

run "no_error_of_the_bucket_is_kept" {
  command = apply

  assert {
    condition     = alltrue([for status, seconds in output.errors : seconds == 0 if status >= 500]) && output.errors["404"] <= 60
    error_message = "An error outlives its cause."
  }
}

run "a_kind_that_there_is_not" {
  command = plan
  variables { kind = "website" }
  expect_failures = [var.kind]
}

run "host_names_without_a_certificate" {
  command = plan
  variables { host_names = ["npm.example.org"] }
  expect_failures = [var.certificate_arn]
}

run "a_certificate_of_another_region" {
  command = plan
  variables {
    host_names      = ["npm.example.org"]
    certificate_arn = "arn:aws:acm:eu-central-1:111122223333:certificate/1"
  }
  expect_failures = [var.certificate_arn]
}

run "no_host_name" {
  command = plan
  variables {
    host_names      = ["https://npm.example.org"]
    certificate_arn = "arn:aws:acm:us-east-1:111122223333:certificate/1"
  }
  expect_failures = [var.host_names]
}

run "documents_for_a_year" {
  command = plan
  variables { document_seconds = 31536000 }
  expect_failures = [var.document_seconds]
}

run "a_name_with_a_dot" {
  command = plan
  variables { name = "npm.mirror" }
  expect_failures = [var.name]
}

# A distribution in front of a bucket's public part: a registry with no process running. All that is decided here is
# decided in ./decisions.

module "decisions" {
  source = "./decisions"

  kind             = var.kind
  name             = var.name
  host_names       = var.host_names
  certificate_arn  = var.certificate_arn
  document_seconds = var.document_seconds
}

locals {
  names   = { for class in module.decisions.classes : class.name => class.seconds... }
  last    = length(module.decisions.classes) - 1
  ordered = slice(module.decisions.classes, 0, local.last)
  default = module.decisions.classes[local.last]
}

resource "aws_cloudfront_origin_access_control" "this" {
  name                              = var.name
  description                       = "mirrorwitness: reads the public part of ${var.name}"
  origin_access_control_origin_type = "s3"
  signing_behavior                  = "always"
  signing_protocol                  = "sigv4"
}

resource "aws_cloudfront_function" "path_rule" {
  name    = "${var.name}-path-rule"
  comment = "mirrorwitness: which object a path means"
  runtime = "cloudfront-js-2.0"
  publish = true
  code    = module.decisions.path_rule
}

# Objects have no Cache-Control of their own, so what is said here holds. Neither cookies nor queries nor headers are part
# of the key: one address is one answer. Documents are compressed on the way.
resource "aws_cloudfront_cache_policy" "this" {
  for_each = local.names

  name        = "${var.name}-${each.key}"
  comment     = "mirrorwitness: ${each.key}"
  min_ttl     = 0
  default_ttl = each.value[0]
  max_ttl     = each.value[0]

  parameters_in_cache_key_and_forwarded_to_origin {
    enable_accept_encoding_brotli = true
    enable_accept_encoding_gzip   = true
    cookies_config {
      cookie_behavior = "none"
    }
    headers_config {
      header_behavior = "none"
    }
    query_strings_config {
      query_string_behavior = "none"
    }
  }
}

resource "aws_cloudfront_function" "age" {
  for_each = module.decisions.ages

  name    = "${var.name}-age-${each.key}"
  comment = "mirrorwitness: how old an answer may become"
  runtime = "cloudfront-js-2.0"
  publish = true
  code    = each.value[0]
}

resource "aws_cloudfront_response_headers_policy" "this" {
  #checkov:skip=CKV_AWS_259:a mirror speaks for its own host name, not for those below it, and browsers' lists are the domain's affair
  name    = var.name
  comment = "mirrorwitness"

  security_headers_config {
    content_type_options {
      override = true
    }
    strict_transport_security {
      access_control_max_age_sec = 31536000
      include_subdomains         = false
      preload                    = false
      override                   = true
    }
  }
}

resource "aws_cloudfront_distribution" "this" {
  #checkov:skip=CKV_AWS_68:an option (web_acl_arn): the content is public, read-only and cached
  #checkov:skip=CKV2_AWS_47:the same; there is no Log4j behind a bucket
  #checkov:skip=CKV_AWS_86:an option (log_bucket_domain_name): clients' addresses are personal data
  #checkov:skip=CKV_AWS_305:/ is no package: the path rule answers 404
  #checkov:skip=CKV_AWS_310:a second copy of a bucket would need replication; cached answers stand in, and clients have other mirrors
  #checkov:skip=CKV_AWS_374:a public mirror is for every country; an operator who may not serve one says so with the provider
  #checkov:skip=CKV_AWS_174:TLS 1.2 is the least wherever there is a certificate; the service's own name has the service's choice
  #checkov:skip=CKV2_AWS_42:the same: a certificate comes with host_names
  enabled         = true
  is_ipv6_enabled = true
  http_version    = "http2and3"
  comment         = "mirrorwitness: ${var.name}"
  aliases         = var.host_names
  price_class     = var.price_class
  web_acl_id      = var.web_acl_arn
  tags            = var.tags

  origin {
    origin_id                = "bucket"
    domain_name              = var.bucket_domain_name
    origin_access_control_id = aws_cloudfront_origin_access_control.this.id
    connection_attempts      = 3
    connection_timeout       = 5
  }

  default_cache_behavior {
    target_origin_id           = "bucket"
    viewer_protocol_policy     = "redirect-to-https"
    allowed_methods            = ["GET", "HEAD"]
    cached_methods             = ["GET", "HEAD"]
    compress                   = true
    cache_policy_id            = aws_cloudfront_cache_policy.this[local.default.name].id
    response_headers_policy_id = aws_cloudfront_response_headers_policy.this.id

    function_association {
      event_type   = "viewer-request"
      function_arn = aws_cloudfront_function.path_rule.arn
    }
    function_association {
      event_type   = "viewer-response"
      function_arn = aws_cloudfront_function.age[local.default.name].arn
    }
  }

  dynamic "ordered_cache_behavior" {
    for_each = local.ordered
    content {
      path_pattern               = ordered_cache_behavior.value.pattern
      target_origin_id           = "bucket"
      viewer_protocol_policy     = "redirect-to-https"
      allowed_methods            = ["GET", "HEAD"]
      cached_methods             = ["GET", "HEAD"]
      compress                   = false
      cache_policy_id            = aws_cloudfront_cache_policy.this[ordered_cache_behavior.value.name].id
      response_headers_policy_id = aws_cloudfront_response_headers_policy.this.id

      function_association {
        event_type   = "viewer-request"
        function_arn = aws_cloudfront_function.path_rule.arn
      }
      function_association {
        event_type   = "viewer-response"
        function_arn = aws_cloudfront_function.age[ordered_cache_behavior.value.name].arn
      }
    }
  }

  dynamic "custom_error_response" {
    for_each = module.decisions.errors
    content {
      error_code            = tonumber(custom_error_response.key)
      error_caching_min_ttl = custom_error_response.value
    }
  }

  dynamic "logging_config" {
    for_each = var.log_bucket_domain_name[*]
    content {
      bucket          = logging_config.value
      include_cookies = false
      prefix          = "${var.name}/"
    }
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  viewer_certificate {
    acm_certificate_arn            = var.certificate_arn
    cloudfront_default_certificate = var.certificate_arn == null
    minimum_protocol_version       = var.certificate_arn == null ? null : "TLSv1.2_2021"
    ssl_support_method             = var.certificate_arn == null ? null : "sni-only"
  }
}

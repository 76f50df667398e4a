// What clients are told of an answer's age. The bucket says nothing, and a policy would say it of errors too: nobody is to
// keep "not found" for a year. CloudFront runs this for what was found only; it looks itself all the same.

function handler(event) {
  var response = event.response;
  if (response.statusCode < 400) {
    response.headers['cache-control'] = { value: '{{cache_control}}' };
  }
  return response;
}

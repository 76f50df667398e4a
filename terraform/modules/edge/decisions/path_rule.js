// The path rule: which object of the bucket a path means. It runs in CloudFront (cloudfront-js-2.0), in front of the
// cache, for a bucket without a process behind it; examples/nginx.conf says the same for nginx.
//
// - A path is split at its slashes first, and each segment is then decoded once, as mirrorwitness/server/routes.py does:
//   /@s%2fn, /@s%2Fn and /@s/n are one package, and ..%2f is part of a name that no package has.
// - What is decoded is encoded again byte by byte: a + that went to S3 as it is would be a space there.
// - Nothing outside of the public part can be named, whatever the path: a key is made of a fixed prefix and segments.
// - What has no object is answered here and asked of nobody.

var KIND = '{{kind}}';

var FOLDERS = { registry: 'npm/', log: 'log/', monitoring: 'witness/', logmirror: 'logmirror/' };

// Whatever a browser or a client would take for something else than a name: no segment is empty, a dot or two, or has a
// control character.
function decode(segment) {
  var text;
  try {
    text = decodeURIComponent(segment);
  } catch (error) {
    return null;
  }
  return text === '' || text === '.' || text === '..' || /[\u0000-\u001f\u007f\\]/.test(text) ? null : text;
}

function encode(key) {
  return '/' + key.split('/').map(function (segment) {
    return encodeURIComponent(segment).replace(/[!'()*]/g, function (letter) {
      return '%' + letter.charCodeAt(0).toString(16).toUpperCase();
    });
  }).join('/');
}

// A package's name at the beginning of segments that are decoded, and what follows; null where there is none.
function takeName(segments) {
  var first = segments[0];
  if (first === undefined) return null;
  if (first[0] !== '@') return first.indexOf('/') < 0 ? [first, segments.slice(1)] : null;
  if (/^@[^/]+\/[^/]+$/.test(first)) return [first, segments.slice(1)];
  var second = segments[1];
  if (/^@[^/]+$/.test(first) && second !== undefined && second !== '-' && second.indexOf('/') < 0) {
    return [first + '/' + second, segments.slice(2)];
  }
  return null;
}

function registryKey(segments) {
  if (segments[0] === '-' && segments.length > 1) return ownKey(segments.slice(1));
  var taken = takeName(segments);
  if (taken === null) return null;
  var rest = taken[1];
  if (rest.length === 0) return 'npm/' + taken[0] + '/packument.json';
  if (rest.length === 2 && rest[0] === '-' && rest[1].indexOf('/') < 0) return 'npm/' + taken[0] + '/-/' + rest[1];
  return null;
}

// What begins with /-/.
function ownKey(segments) {
  var path = segments.join('/');
  if (path === 'npm/v1/keys') return 'about/keys.json';
  if (path === 'about.json') return 'about/mirror.json';
  if (path === 'about.json.note') return 'about/mirror.json.note';
  if (/^summary\/[0-9a-f]{2}\/[0-9a-f]{64}$/.test(path)) return 'about/' + path;
  var found = /^npm\/v1\/attestations\/((?:@[^\/@]+\/)?[^\/@]+)@([^\/@]+)$/.exec(path);
  return found ? 'npm/' + found[1] + '/attestations/' + found[2] + '.json' : null;
}

function logKey(segments) {
  var path = segments.join('/');
  if (path === 'checkpoint') return path;
  if (/^tile\/(entries|[0-9]{1,2})\/(x[0-9]{3}\/)*[0-9]{3}(\.p\/[0-9]{1,3})?$/.test(path)) return path;
  if (KIND !== 'log' || segments[0] !== 'index') return null;
  var taken = takeName(segments.slice(1));
  return taken !== null && taken[1].length === 0 ? 'index/' + taken[0] : null;
}

function monitoringKey(segments) {
  if (!/^[0-9a-f]{64}$/.test(segments[0])) return null;
  if (KIND === 'monitoring') return segments.length === 2 && segments[1] === 'checkpoint' ? segments.join('/') : null;
  var key = logKey(segments.slice(1));
  return key === null ? null : segments[0] + '/' + key;
}

function findKey(uri) {
  var segments = uri.split('/').slice(1).map(decode);
  if (segments.length === 0 || segments.indexOf(null) >= 0) return null;
  if (KIND === 'registry') return registryKey(segments);
  var key = KIND === 'log' ? logKey(segments) : monitoringKey(segments);
  return key === null ? null : FOLDERS[KIND] + key;
}

function answer(status, text, body, seconds) {
  return {
    statusCode: status,
    statusDescription: text,
    headers: {
      'content-type': { value: 'application/json' },
      'cache-control': { value: 'public, max-age=' + seconds }
    },
    body: { encoding: 'text', data: body }
  };
}

function handler(event) {
  var request = event.request;
  if (KIND === 'registry' && request.uri === '/-/ping') return answer(200, 'OK', '{}', 60);
  var key = findKey(request.uri);
  if (key === null) return answer(404, 'Not Found', '{"error": "this mirror does not have it"}', 60);
  request.uri = encode(key);
  request.querystring = {};
  return request;
}

// The thin front of the real feed: express-pouchdb with one database, spoken to in the dialect of npm's services.
//
//   NODE_PATH=.cache/real/feed/node_modules node scripts/real/feed/front.js DATABASE_PORT FEED_PORT REGISTRY_PORT
//
// Three listeners on 127.0.0.1, and nothing but memory behind them:
//
// database  express-pouchdb as it is; the tests write documents here, with tarballs as attachments
// feed      GET /, /_changes, /_all_docs, also below /registry; 400 for what the public service does not take
// registry  GET /<name>: the document, always in full; GET /<name>/-/<file>: the attachment; 404 for everything else
//
// Sequences, revisions, rows, tombstones, conflicts, ETags and all bodies but the feed's root are PouchDB's own.
'use strict'

const express = require('express')
const makeDatabase = require('express-pouchdb')
const PouchDB = require('pouchdb')

const MAX_LIMIT = 10000
const DEFAULT_LIMIT = 1000
const KNOWN = {
  _changes: ['since', 'limit'],
  _all_docs: ['limit', 'startkey', 'startkey_docid', 'endkey'],
}

const [databasePort, feedPort, registryPort] = process.argv.slice(2).map(Number)

PouchDB.plugin(require('pouchdb-adapter-memory'))
const database = express()
database.disable('x-powered-by')
database.use(
  makeDatabase(PouchDB.defaults({ adapter: 'memory' }), { mode: 'minimumForPouchDB', inMemoryConfig: true }),
)

// Returns what is wrong with a query, or undefined.
function findFault(kind, query) {
  for (const parameter of query.keys()) {
    if (!KNOWN[kind].includes(parameter)) return `unsupported parameter: ${parameter}`
  }
  for (const name of ['since', 'limit']) {
    if (query.has(name) && !/^[0-9]+$/.test(query.get(name))) return `${name}: not an integer`
  }
  if (Number(query.get('limit')) > MAX_LIMIT) return `limit: at most ${MAX_LIMIT}`
  return undefined
}

const feed = express()
feed.disable('x-powered-by')
feed.use(async (request, response, next) => {
  const url = new URL(request.url, 'http://front')
  const kind = url.pathname.replace(/^\/registry(?=\/|$)/, '').replace(/^\//, '')
  if (request.method !== 'GET' && request.method !== 'HEAD') return response.status(405).json({ error: 'method' })
  if (kind === '') {
    const info = await (await fetch(`http://127.0.0.1:${databasePort}/registry`)).json()
    const { doc_count, update_seq } = info
    return response.json({ db_name: 'registry', engine: 'npm-replicate', doc_count, update_seq })
  }
  if (!Object.hasOwn(KNOWN, kind)) return response.status(404).json({ error: 'not_found', reason: 'no such path' })
  const fault = findFault(kind, url.searchParams)
  if (fault !== undefined) return response.status(400).json({ error: 'bad_request', reason: fault })
  if (!url.searchParams.has('limit')) url.searchParams.set('limit', String(DEFAULT_LIMIT))
  if (url.searchParams.has('startkey_docid')) {
    const id = url.searchParams.get('startkey_docid').replaceAll('"', '')
    url.searchParams.delete('startkey_docid')
    url.searchParams.set('startkey', JSON.stringify(id))
  }
  request.url = `/registry/${kind}${url.search}`
  request.query = undefined // Express reads it from the URL again
  return next()
})
feed.use(database)

const registry = express()
registry.disable('x-powered-by')
registry.use((request, response, next) => {
  const parts = decodeURIComponent(request.path).slice(1).split('/')
  const name = parts.splice(0, parts[0].startsWith('@') ? 2 : 1).join('/')
  const isFile = parts.length === 2 && parts[0] === '-'
  const isAsked = request.method === 'GET' || request.method === 'HEAD'
  if (!isAsked || name === '' || name.startsWith('_') || !(isFile || parts.length === 0)) {
    return response.status(isAsked ? 404 : 405).json({ error: 'Not found' })
  }
  request.url = `/registry/${encodeURIComponent(name)}${isFile ? `/${encodeURIComponent(parts[1])}` : ''}`
  return next()
})
registry.use(database)

database.listen(databasePort, '127.0.0.1', async () => {
  await fetch(`http://127.0.0.1:${databasePort}/registry`, { method: 'PUT' })
  registry.listen(registryPort, '127.0.0.1', () => {
    // The feed comes last: who can ask it can ask everything.
    feed.listen(feedPort, '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${feedPort}`))
  })
})

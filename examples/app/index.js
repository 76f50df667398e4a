'use strict'

// A smoke run: each line uses one installed package, so a broken or half-finished install fails here.
const assert = require('node:assert')
const { Readable } = require('node:stream')
const { crc32 } = require('@node-rs/crc32')
const JSONStream = require('JSONStream')
const glob = require('glob')
const isNumber = require('is-number')
const isOdd = require('is-odd')
const semver = require('semver')
const width = require('string-width-cjs')

assert.strictEqual(isOdd(3), true)
assert.strictEqual(isNumber('7'), true)
assert.strictEqual(semver.satisfies('1.2.3', '^1.0.0'), true)
assert.strictEqual(width('古'), 2)
assert.strictEqual(crc32('mirrorwitness'), 0x9890b944)
assert.deepStrictEqual(glob.sync('package.json', { cwd: __dirname }), ['package.json'])

const seen = []
Readable.from(['{"rows":[1,', '2,3]}'])
  .pipe(JSONStream.parse('rows.*'))
  .on('data', (row) => seen.push(row))
  .on('end', () => {
    assert.deepStrictEqual(seen, [1, 2, 3])
    console.log('example app: 7 packages work')
  })

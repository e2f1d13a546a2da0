// A tour of PostgreSQL features through node-postgres.
//
// usage: node node_tour.js DSN      (from a folder that has pg, pg-cursor and pg-copy-streams)
// Prints one JSON line per step: {"step": name, "ok": bool, "optional": bool, "error": text}.
// A step that fails does not stop the tour.

'use strict'
const assert = require('node:assert')
const { createRequire } = require('node:module')
const path = require('node:path')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const need = createRequire(path.join(process.cwd(), 'tour.js'))
const pg = need('pg')
const Cursor = need('pg-cursor')
const copy = need('pg-copy-streams')

// Values are compared as the server wrote them where JavaScript has no exact type of its own.
const DSN = process.argv[2]

async function step(name, body) {
  const client = new pg.Client({ connectionString: DSN, statement_timeout: 60000, connectionTimeoutMillis: 10000 })
  let error = null
  client.on('error', () => {})
  try {
    await client.connect()
    await body(client)
  } catch (caught) {
    error = `${caught.code ? caught.code + ' ' : ''}${caught.message}`
  }
  await Promise.race([client.end().catch(() => {}), new Promise((done) => setTimeout(done, 2000).unref())])
  console.log(JSON.stringify({ step: name, ok: error === null, optional: false, error }))
}

const same = (found, expected) => assert.deepStrictEqual(found, expected)

async function fails(promise, code) {
  try {
    await promise
  } catch (error) {
    assert.strictEqual(error.code, code, `expected ${code}, got ${error.code} ${error.message}`)
    return error
  }
  throw new Error(`expected ${code}, but it went through`)
}

// type → [sent, got back] pairs; `got` is what the driver's parser makes of the text.
const id = '2b1d8a6e-94f3-4c67-9a01-5d2f8c7e3b10'
const instant = new Date('2026-11-24T15:30:00.123Z')
const VALUES = {
  bool: [[true, true], [false, false], [null, null]],
  int2: [[-32768, -32768], [32767, 32767], [null, null]],
  int4: [[-2147483648, -2147483648], [2147483647, 2147483647]],
  int8: [['9223372036854775807', '9223372036854775807'], [-5, '-5']],
  float4: [[1.5, 1.5], [-0.25, -0.25], ['Infinity', Infinity], ['NaN', NaN]],
  float8: [[0.1, 0.1], [-1e308, -1e308], [5e-324, 5e-324], ['-Infinity', -Infinity], ['NaN', NaN]],
  numeric: [['-1.50', '-1.50'], ['NaN', 'NaN'],
    ['12345678901234567890.123456789012345678901234567890', '12345678901234567890.123456789012345678901234567890']],
  text: [['', ''], ['q\'uo"te\\', 'q\'uo"te\\'], ['ünïcödé 🐘', 'ünïcödé 🐘'], [null, null]],
  'varchar(20)': [['twenty characters ok', 'twenty characters ok']],
  'char(5)': [['abc', 'abc  ']],
  bytea: [[Buffer.from([0, 1, 254, 255]), Buffer.from([0, 1, 254, 255])], [Buffer.alloc(0), Buffer.alloc(0)]],
  date: [['2026-02-28', new Date(2026, 1, 28)]],
  timestamp: [['2026-11-24 15:30:00.123', new Date(2026, 10, 24, 15, 30, 0, 123)]],
  timestamptz: [[instant, instant]],
  uuid: [[id, id]],
  json: [[{ a: [1, null, true] }, { a: [1, null, true] }], ['5', 5]],
  jsonb: [[{ b: { c: 'ü' }, a: [1, 2.5] }, { b: { c: 'ü' }, a: [1, 2.5] }]],
  'int4[]': [[[1, null, -3], [1, null, -3]], [[], []], [[[1, 2], [3, 4]], [[1, 2], [3, 4]]]],
  'text[]': [[['', null, 'q"u,o{te}', 'NULL', 'back\\slash'], ['', null, 'q"u,o{te}', 'NULL', 'back\\slash']]],
  'numeric[]': [[['1.10', null], [1.1, null]]],
  'timestamptz[]': [[[instant, null], [instant, null]]],
  'uuid[]': [[[id, null], [id, null]]],
}
// node-postgres 8 passes binary values through a UTF-8 string, so only those survive whose bytes are below
// 0x80: a flaw of its own, whatever the server.
const BINARY_VALUES = {
  bool: [true, false, null],
  int2: [0x0102],
  int4: [0x01020304, 0],
  int8: ['72623859790382856'],
  float4: [2],
  float8: [2],
  text: ['', 'plain', null],
  'varchar(20)': ['twenty characters ok'],
}

async function thereAndBack(c, type, pairs, binary) {
  await c.query('DROP TABLE IF EXISTS tour_value')
  await c.query(`CREATE TABLE tour_value (id int PRIMARY KEY, v ${type})`)
  for (const [number, [sent, expected]] of pairs.entries()) {
    await c.query('INSERT INTO tour_value VALUES ($1, $2)', [number, sent])
    const result = await c.query({ text: 'SELECT v FROM tour_value WHERE id = $1', values: [number], binary })
    same(result.rows[0].v, expected)
  }
}

async function main() {
  await step('connect', async (c) => same((await c.query('SELECT 1 AS one')).rows, [{ one: 1 }]))

  for (const [type, pairs] of Object.entries(VALUES)) {
    await step(`${type}, text`, (c) => thereAndBack(c, type, pairs, false))
  }
  for (const [type, values] of Object.entries(BINARY_VALUES)) {
    await step(`${type}, binary`, (c) => thereAndBack(c, type, values.map((value) => [value, value]), true))
  }

  await step('interval, text', async (c) => {
    const { v } = (await c.query('SELECT $1::interval AS v', ['1 year 2 mons 3 days 04:05:06.789'])).rows[0]
    same({ ...v }, { years: 1, months: 2, days: 3, hours: 4, minutes: 5, seconds: 6, milliseconds: 789 })
  })

  await step('named prepared statements', async (c) => {
    await c.query('DROP TABLE IF EXISTS tour')
    await c.query('CREATE TABLE tour (id int PRIMARY KEY, name text)')
    for (let n = 0; n < 50; n++) {
      await c.query({ name: 'put', text: 'INSERT INTO tour VALUES ($1, $2)', values: [n, `name ${n}`] })
    }
    for (let n = 0; n < 50; n++) {
      const { rows } = await c.query({ name: 'get', text: 'SELECT name FROM tour WHERE id = $1', values: [n] })
      same(rows, [{ name: `name ${n}` }])
    }
  })

  await step('error in a transaction, ROLLBACK, reuse', async (c) => {
    await c.query('BEGIN')
    await c.query("INSERT INTO tour VALUES (2000, 'lost')")
    const error = await fails(c.query("INSERT INTO tour VALUES (0, 'twice')"), '23505')
    same([error.constraint, error.table], ['tour_pkey', 'tour'])
    await fails(c.query('SELECT 1'), '25P02')
    await c.query('ROLLBACK')
    same((await c.query('SELECT count(*)::int AS n FROM tour WHERE id = 2000')).rows, [{ n: 0 }])
  })

  await step('savepoints', async (c) => {
    await c.query('BEGIN')
    await c.query("INSERT INTO tour VALUES (3000, 'kept')")
    await c.query('SAVEPOINT s')
    await fails(c.query('SELECT 1 / 0'), '22012')
    await c.query('ROLLBACK TO SAVEPOINT s')
    await c.query("INSERT INTO tour VALUES (3001, 'kept too')")
    await c.query('RELEASE SAVEPOINT s')
    await c.query('COMMIT')
    same((await c.query('SELECT id FROM tour WHERE id >= 3000 ORDER BY id')).rows, [{ id: 3000 }, { id: 3001 }])
  })

  await step('portal with a row limit (pg-cursor)', async (c) => {
    const cursor = c.query(new Cursor('SELECT n FROM generate_series(1, $1::int) AS n', [250]))
    const sizes = []
    for (;;) {
      const rows = await cursor.read(100)
      sizes.push(rows.length)
      if (rows.length === 0) break
    }
    await cursor.close()
    same(sizes, [100, 100, 50, 0])
    same((await c.query('SELECT 1 AS one')).rows, [{ one: 1 }])
  })

  const lines = Array.from({ length: 1000 }, (_, n) => [n, n % 7 === 0 ? null : `value ${n}`])
  for (const [format, line] of [
    ['text', ([n, v]) => `${n}\t${v === null ? '\\N' : v}\n`],
    ['csv', ([n, v]) => `${n},${v === null ? '' : v}\n`],
  ]) {
    await step(`COPY in and out (${format})`, async (c) => {
      await c.query('DROP TABLE IF EXISTS tour_copy')
      await c.query('CREATE TABLE tour_copy (id int PRIMARY KEY, v text)')
      const text = lines.map(line).join('')
      await pipeline(Readable.from([text]), c.query(copy.from(`COPY tour_copy FROM STDIN (FORMAT ${format})`)))
      const out = c.query(copy.to(`COPY (SELECT * FROM tour_copy ORDER BY id) TO STDOUT (FORMAT ${format})`))
      const chunks = []
      for await (const chunk of out) chunks.push(chunk)
      same(Buffer.concat(chunks).toString(), text)
    })
  }

  await step('several queries queued on one connection', async (c) => {
    // Without awaiting each: the driver queues them on its connection.
    const queued = Array.from({ length: 50 }, (_, n) => c.query('SELECT $1::int AS n', [n]))
    const results = await Promise.all(queued)
    same(results.map((result) => result.rows[0].n), Array.from({ length: 50 }, (_, n) => n))
  })

  await step('several statements in one message', async (c) => {
    const results = await c.query('SELECT 1 AS a; SELECT 2 AS b')
    same(results.map((result) => result.rows), [[{ a: 1 }], [{ b: 2 }]])
  })

  await step('a pool of ten clients', async () => {
    const pool = new pg.Pool({ connectionString: DSN, max: 10 })
    try {
      const sums = await Promise.all(
        Array.from({ length: 200 }, (_, n) => pool.query('SELECT $1::int + 1 AS s', [n]).then((r) => r.rows[0].s)))
      same(sums, Array.from({ length: 200 }, (_, n) => n + 1))
    } finally {
      await pool.end()
    }
  })

  await step('columns of a result: names and type ids', async (c) => {
    const { fields } = await c.query("SELECT 1::int8 AS a, 'x'::text AS \"B c\", now()")
    same(fields.map((f) => [f.name, f.dataTypeID]), [['a', 20], ['B c', 25], ['now', 1184]])
  })

  await step('clean up', async (c) => c.query('DROP TABLE IF EXISTS tour, tour_copy, tour_value'))
}

main().then(() => process.exit(0))

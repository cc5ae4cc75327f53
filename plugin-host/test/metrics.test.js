'use strict'
// What is counted, who is named, and where errors are.

const assert = require('node:assert')
const { test } = require('node:test')
const { placeOf } = require('../lib/place')
const { Engine } = require('./support')

// The newest row of a plugin and hook that is `enough`. Messages stay for others to find.
async function rowOf(engine, plugin, hook, enough = () => true) {
    for (;;) {
        const rows = engine.other.filter(({ t }) => t === 'metrics').flatMap(({ rows }) => rows)
        const row = rows.reverse().find((row) => row[0] === plugin && row[1] === hook && enough(row))
        if (row) return row
        await engine.change()
    }
}

test('calls, time, failures and timeouts of each plugin and hook', async (t) => {
    const engine = new Engine(t).config('slow.timeout', '0.2')
    engine.plugin('quick', 'exports.hook_send_email = function (next, hmail) { hmail.todo.domain === "bad" ? nothing() : next() }')
    engine.plugin('slow', `exports.hook_get_mx = function (next) {
        const end = Date.now() + 50
        while (Date.now() < end);
        setTimeout(() => {}, 1)
    }`)
    await engine.start()
    await engine.call('attempt')
    await engine.call('attempt', { id: '0BBCDEFGHJKMN.1', domain: 'bad' })
    const [, , calls, ms, , , timeouts, failures] = await rowOf(engine, 'quick', 'send_email', (row) => row[2] >= 2)
    assert.deepStrictEqual([calls, timeouts, failures], [2, 0, 1])
    assert.ok(ms >= 0)
    const slow = await rowOf(engine, 'slow', 'get_mx', (row) => row[2] >= 2)
    assert.deepStrictEqual([slow[2], slow[6]], [2, 2])
    assert.ok(slow[3] >= 400 && slow[5] >= 200, `until the timeout: ${slow}`)
    assert.ok(slow[4] >= 90 && slow[4] < 300, `only while it ran: ${slow}`)
})

test('what runs in timers is its plugin\'s', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('late', 'exports.register = function () { setTimeout((x) => { if (x !== 5) throw new Error(x) }, 10, 5) }').start()
    assert.strictEqual((await rowOf(engine, 'late', 'timers'))[2], 1)
})

test('heap is named after who holds it', async (t) => {
    const engine = new Engine(t)
    engine.plugin('small', 'exports.hook_send_email = (next) => next()')
    engine.plugin('big', `const held = []
        exports.hook_send_email = function (next) { for (let i = 0; i < 1000; i++) held.push(new Array(10000).fill(i)); next() }`)
    await engine.start()
    await engine.call('attempt')
    const { heap } = await engine.expect((message) => message.t === 'metrics' && message.heap.big > 40e6)
    assert.ok((heap.small || 0) < 1e6)
})

test('the roster names hooks in the order in which they run', async (t) => {
    const engine = new Engine(t)
    engine.plugin('first', 'exports.hook_get_mx = (next) => next()')
    engine.plugin('urgent', 'exports.register = function () { this.register_hook("get_mx", "route", -10) }; exports.route = (next) => next()')
    await engine.start()
    assert.deepStrictEqual(engine.ready.roster.hooks.get_mx, [
        { plugin: 'urgent', method: 'route', priority: -10 }, { plugin: 'first', method: 'hook_get_mx', priority: 0 }])
    assert.deepStrictEqual(engine.ready.roster.plugins.map(({ name, timeout }) => [name, timeout]), [['first', 30], ['urgent', 30]])
})

test('who does not give way is noted for the time after', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('loop', 'exports.hook_get_mx = function () { for (;;); }').start({ watched: true })
    engine.call('attempt')
    const notes = await engine.noted((text) => text.includes('"ms":400'))
    const note = JSON.parse(notes.trim().split('\n').pop())
    assert.deepStrictEqual({ ...note, ms: 0 }, { plugin: 'loop', hook: 'get_mx', running: true, ms: 0 })
})

test('errors are placed in the file of their author', () => {
    const places = {
        'TypeError: x\n    at Plugin.a (/i/plugins/a.js:7:12)\n    at node:internal/vm:1:2': { file: '/i/plugins/a.js', line: 7 },
        '/i/plugins/b.js:3\nexports = {\n\nSyntaxError: Unexpected': { file: '/i/plugins/b.js', line: 3 },
        'Error: no\n    at f (/host/lib/x.js:1:1)\n    at async /i/plugins/c.js:9:1': { file: '/i/plugins/c.js', line: 9 },
        'Error: at night: 12:30': undefined,
    }
    for (const [stack, place] of Object.entries(places)) assert.deepStrictEqual(placeOf({ stack }, ['/i/']), place)
})

'use strict'
// What plugins ask of the engine.

const assert = require('node:assert')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { cache } = require('../lib/sluice')
const { Engine } = require('./support')

// The request that a plugin makes with `expression`, and what it makes of the answer.
async function exchange(t, expression, status, body) {
    const engine = new Engine(t)
    await engine.plugin('asks', `const sluice = require('sluice')
        exports.hook_send_email = async function (next, hmail) {
            try {
                hmail.todo.notes.told = await (${expression})
            } catch (error) {
                hmail.todo.notes.told = [error.name, error.status, error.field, error.message]
            }
            next()
        }`).start()
    const answer = engine.call('attempt')
    const { t: _, id, ...request } = await engine.expect((message) => message.t === 'request')
    engine.wire.send({ t: 'response', id, status, body })
    return { request, told: JSON.parse((await answer).image || '{"notes":{}}').notes.told }
}

const CALLS = {
    'policy.add is signed': [
        'sluice.policy.add({ if: { remotemx: "mx.test" }, then: { rate: 5 }, ttl: 60 })', { id: 'c1', updated: false },
        { method: 'POST', path: '/v1/policy/conditions', query: {}, body: { author: 'plugin asks', if: { remotemx: 'mx.test' }, then: { rate: 5 }, ttl: 60 } },
        { id: 'c1', updated: false }],
    'policy.list': ['sluice.policy.list()', { conditions: [{ id: 'a' }] }, { method: 'GET', path: '/v1/policy/conditions', query: {} }, [{ id: 'a' }]],
    'suspend.delete': [
        'sluice.suspend.delete("s1", "over")', { id: 's1' },
        { method: 'POST', path: '/v1/suspensions/delete', query: {}, body: { author: 'plugin asks', id: 's1', reason: 'over' } }, { id: 's1' }],
    'rate': [
        'sluice.rate("n", 7, 10, 60)', { allowed: false, used: 10 },
        { method: 'POST', path: '/v1/memory/rate', query: {}, body: { namespace: 'n', key: '7', count: 10, seconds: 60 } }, false],
    'rate that only looks': [
        'sluice.rate("n", "k", 0, 60)', { allowed: false, used: 4 },
        { method: 'POST', path: '/v1/memory/rate', query: {}, body: { namespace: 'n', key: 'k', count: 0, seconds: 60 } }, 4],
    'memory.get': ['sluice.memory.get("k")', { key: 'k', value: [1] }, { method: 'GET', path: '/v1/memory', query: { key: 'k' } }, [1]],
    'memory.set': [
        'sluice.memory.set("k", { a: 1 }, { ttl: 5 }).then(() => "set")', { set: 1 },
        { method: 'POST', path: '/v1/memory', query: {}, body: { key: 'k', value: { a: 1 }, ttl: 5 } }, 'set'],
    'memory.incr': [
        'sluice.memory.incr("k")', { key: 'k', value: 3 }, { method: 'POST', path: '/v1/memory/increment', query: {}, body: { key: 'k', by: 1 } }, 3],
    'memory.compareAndSet without a value before': [
        'sluice.memory.compareAndSet("k", undefined, 1)', { done: true, value: 1 },
        { method: 'POST', path: '/v1/memory/compare_and_set', query: {}, body: { key: 'k', value: 1 } }, true],
    'queue.count': [
        'sluice.queue.count("age>2h")', { total: { items: 9 } }, { method: 'GET', path: '/v1/queue/groups', query: { where: 'age>2h', limit: '1' } }, 9],
    'queue.groups': [
        'sluice.queue.groups(["domain", "tenant"], { limit: 5 })', { groups: [] },
        { method: 'GET', path: '/v1/queue/groups', query: { by: 'domain,tenant', limit: '5' } }, { groups: [] }],
    'explain': ['sluice.explain("x.test")', { explanations: [1] }, { method: 'GET', path: '/v1/explain', query: { what: 'x.test' } }, [1]],
}
test('a value that is none in JSON is refused to who sent it, and nobody else notices', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('asks', `const sluice = require('sluice')
        const why = (value) => sluice.memory.set('k', value).then(() => 'set', (error) => error.name)
        const loop = {}
        loop.loop = loop
        exports.hook_send_email = async function (next, hmail) {
            hmail.todo.notes.told = await Promise.all([why(10n), why(loop), why('x'.repeat(17 * 1024 * 1024))])
            next()
        }`).start()
    const [answer] = await Promise.all([engine.call('attempt'), engine.call('attempt', { id: '0ABCDEFGHJKMN.2' })])
    assert.deepStrictEqual(JSON.parse(answer.image).notes.told, ['TypeError', 'TypeError', 'Error'])
})

for (const [name, [expression, body, expected, told]] of Object.entries(CALLS)) {
    test(name, async (t) => {
        const said = await exchange(t, expression, 200, body)
        assert.deepStrictEqual(said.request, expected)
        assert.deepStrictEqual(said.told, told)
    })
}

test('a refusal rejects, with the field that is to blame', async (t) => {
    const { told } = await exchange(t, 'sluice.policy.add({ colour: 1 })', 422, { error: 'colour: unknown', field: 'colour' })
    assert.deepStrictEqual(told, ['SluiceError', 422, 'colour', 'colour: unknown'])
})

test('what is not there is undefined', async (t) => {
    const { told } = await exchange(t, 'sluice.memory.get("k").then((value) => value === undefined)', 404, { error: 'nothing' })
    assert.strictEqual(told, true)
})

test('packages find the module too, under their own names', async (t) => {
    const engine = new Engine(t)
    await engine.package('packed', `exports.register = function () { this.register_hook('get_mx', 'route') }
        exports.route = async function (next) { next(OK, (await require('sluice').suspend.add({ remotemx: 'x' })).id + '.test') }`).start()
    const answer = engine.call('attempt')
    const request = await engine.expect((message) => message.t === 'request')
    assert.strictEqual(request.body.author, 'plugin packed')
    engine.wire.send({ t: 'response', id: request.id, status: 200, body: { id: 's1' } })
    assert.strictEqual((await answer).mx[0].host, 's1.test')
})

test('cache: once for the same arguments, failures not at all', async () => {
    let calls = 0
    const once = cache(60, async (a) => { calls += 1; if (a === 'bad') throw new Error('bad'); return a })
    assert.deepStrictEqual([await once('a'), await once('a'), await once('b')], ['a', 'a', 'b'])
    assert.strictEqual(calls, 2)
    await assert.rejects(once('bad'))
    await assert.rejects(once('bad'))
    assert.strictEqual(calls, 4)
    const short = cache(0.01, () => (calls += 1))
    const first = short()
    await new Promise((resolve) => setTimeout(resolve, 20))
    assert.notStrictEqual(short(), first)
    assert.throws(() => cache(0, () => {}), TypeError)
})

test('the example slows an MX down once, after ten failures in a minute', async (t) => {
    const engine = new Engine(t)
    engine.plugin('slow-down', fs.readFileSync(path.join(__dirname, '..', 'examples', 'slow-down.js'), 'utf8'))
    await engine.start()
    const fails = (n) => engine.call('deferred', { id: `0ABCDEFGHJKMN.${n}` }, { of: [0], reason: '450 no', delay: 60, mx: { exchange: '192.0.2.1', from_dns: 'mx.there.test' } })
    for (let n = 1; n <= 12; n++) {
        assert.strictEqual((await fails(n)).what, 'default')
        const asked = await engine.expect((message) => message.t === 'request')
        assert.deepStrictEqual(asked.body, { namespace: 'failures', key: 'mx.there.test', count: 10, seconds: 60 })
        engine.wire.send({ t: 'response', id: asked.id, status: 200, body: { allowed: n <= 10, used: Math.min(n, 10) } })
        if (n !== 11) continue
        const added = await engine.expect((message) => message.t === 'request')
        assert.deepStrictEqual([added.body.if, added.body.then.rate, added.body.ttl], [{ remotemx: 'mx.there.test' }, '10/60', 300])
        engine.wire.send({ t: 'response', id: added.id, status: 200, body: { id: 'c1', updated: false } })
    }
    engine.wire.send({ t: 'ping', n: 1 })
    await engine.expect((message) => message.t === 'pong')
    assert.ok(!engine.other.some((message) => message.t === 'request'))
})

'use strict'
// Parts of a chain: what the engine asks for between native plugins.

const assert = require('node:assert')
const { test } = require('node:test')
const { Engine } = require('./support')

// Three plugins that note when they are asked, and answer get_mx and deferred as told.
async function three(t, answers = {}) {
    const engine = new Engine(t)
    for (const [name, priority] of [['a', 0], ['b', 0], ['c', 5]]) {
        const hook = (which) => `exports['${which}_it'] = function (next, hmail) {
            hmail.todo.notes.asked = (hmail.todo.notes.asked || '') + '${name}'
            next(${answers[`${name}.${which}`] || ''})
        }
        `
        const hooks = ['send_email', 'get_mx', 'deferred']
        engine.plugin(name, `exports.register = function () {
            ${hooks.map((which) => `this.register_hook('${which}', '${which}_it', ${priority})`).join('\n')}
        }
        ${hooks.map(hook).join('')}`)
    }
    await engine.start({ order: ['a', 'b', 'c'] })
    return engine
}

const askedIn = (answer) => (answer.image ? JSON.parse(answer.image).notes.asked : '')

test('the engine learns where listeners stand', async (t) => {
    const engine = await three(t)
    assert.deepStrictEqual(engine.ready.places.get_mx, [[0, 0], [0, 1], [5, 2]])
})

test('only a part is asked, and of hooks that are not named nobody', async (t) => {
    const engine = await three(t)
    const ask = async (id, spans) => askedIn(await engine.call('attempt', { id: `0ABCDEFGHJKM${id}.1` }, { spans }))
    assert.strictEqual(await ask('0', { get_mx: [null, [0, 0.5]] }), 'a')
    assert.strictEqual(await ask('1', { get_mx: [[0, 0.5], null] }), 'bc')
    assert.strictEqual(await ask('2', { get_mx: [[0, 0.5], [5, 1.5]] }), 'b')
    assert.strictEqual(await ask('3', { get_mx: [[5, 2.5], null] }), '')
    assert.strictEqual(await ask('4', { send_email: [[0, 1.5], null], get_mx: [null, [0, 0.5]] }), 'ca')
    assert.strictEqual(await ask('5', {}), '')
    assert.strictEqual(await ask('6', undefined), 'abcabc')
})

test('a part says whether it ended the chain', async (t) => {
    const engine = await three(t, { 'a.send_email': 'OK', 'b.get_mx': 'STOP', 'a.deferred': 'DENYSOFT' })
    const decided = async (point, id, spans) =>
        (await engine.call(point, { id: `0ABCDEFGHJKM${id}.1` }, { spans, of: [0], delay: 1 })).decided
    assert.strictEqual(await decided('attempt', '0', { send_email: [null, [0, 0.5]] }), true)
    assert.strictEqual(await decided('attempt', '1', { send_email: [[0, 0.5], null] }), undefined)
    assert.strictEqual(await decided('attempt', '2', { send_email: [null, null], get_mx: [null, [0, 0.5]] }), undefined)
    assert.strictEqual(await decided('attempt', '3', { get_mx: [null, null] }), true)
    assert.strictEqual(await decided('deferred', '4', { deferred: [null, [0, 0.5]] }), true)
    assert.strictEqual(await decided('attempt', '5', undefined), undefined)
})

test('what native plugins note is seen at once', async (t) => {
    const engine = new Engine(t)
    engine.plugin('a', 'exports.hook_get_mx = function (next, hmail) { hmail.todo.notes.twice = hmail.todo.notes.native * 2; next() }')
    await engine.start()
    await engine.call('attempt', {}, { noted: { native: 1 } })
    const answer = await engine.call('attempt', {}, { noted: { native: 21 } })
    assert.deepStrictEqual(JSON.parse(answer.image).notes, { native: 21, twice: 42 })
})

'use strict'
// The `log` hook, and plugins of Haraka's own package.

const assert = require('node:assert')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { Engine, controlOf } = require('./support')

const LISTENER = `const seen = exports.seen = []
    exports.hook_log = function (next, logger, item) { seen.push([item.level, item.data, item.obj.origin, item.obj.message]); next() }
    exports.hook_send_email = function (next, hmail) { hmail.todo.notes.told = seen.splice(0); next() }`
const asked = async (engine) => JSON.parse((await engine.call('attempt')).image).notes.told

test('lines of the engine and of other plugins are shown, in order, and still written', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('listener', LISTENER).plugin('talker', `exports.hook_get_mx = function (next) { this.loginfo('hello', 'there'); next() }`).start()
    assert.ok('log' in engine.ready.hooks)
    await engine.call('attempt')
    engine.wire.send({ t: 'line', level: 4, session: 's.1', origin: 'outbound', text: '[WARN] [s.1] [outbound] look a=1' })
    const told = await asked(engine)
    assert.deepStrictEqual(told.slice(-2), [
        ['INFO', '[INFO] [-] [talker] hello there', 'talker', 'hello there'],
        ['WARN', '[WARN] [s.1] [outbound] look a=1', 'outbound', '[WARN] [s.1] [outbound] look a=1'],
    ])
    await engine.logged(/hello there/)
    assert.strictEqual(engine.logs.filter(({ text }) => text.includes('look')).length, 0)
})

test('another level holds at once', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('talker', `exports.hook_send_email = function (next, hmail) { this.logdebug('debug of ' + hmail.todo.domain); next() }`)
        .start({ log_level: 6 })
    await engine.call('attempt', { domain: 'before.test' })
    engine.wire.send({ t: 'level', level: 7 })
    await engine.call('attempt', { id: '0BBCDEFGHJKMN.1', domain: 'after.test' })
    await engine.logged(/debug of after/)
    assert.ok(!engine.logs.some(({ text }) => text.includes('before')))
})

test('what a plugin takes is not written, and what fails takes nothing', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('listener', `exports.hook_log = function (next, logger, item) {
        if (item.data.includes('secret')) return next(OK)
        if (item.data.includes('throw')) throw new Error('from the log hook')
        if (item.data.includes('reject')) return Promise.reject(new Error('from the log hook'))
        next()
    }`).plugin('talker', `exports.hook_send_email = function (next) {
        for (const text of ['secret', 'throw', 'reject', 'last']) this.loginfo(text)
        next()
    }`).start()
    await engine.call('attempt')
    await engine.logged(/last/)
    assert.deepStrictEqual(engine.logs.filter(({ origin }) => origin === 'talker').map(({ text }) => text), ['throw', 'reject', 'last'])
})

test('who listens and speaks hears no end of nothing', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('listener', `exports.hook_log = async function (next, logger, item) {
        this.loginfo('I heard ' + item.data)
        logger.loginfo('so did I')
        await null
        this.loginfo('and later')
        next()
    }`).plugin('talker', `exports.hook_send_email = function (next) { this.loginfo('one line'); next() }`).start()
    await engine.call('attempt')
    await engine.logged(/one line/)
    await engine.call('attempt')
    assert.strictEqual(engine.logs.filter(({ text }) => text.startsWith('I heard [INFO] [-] [talker]')).length, 2)
    assert.ok(engine.logs.length < 20, `${engine.logs.length} lines`)
})

test('a listener that never answers does not keep lines from being written', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('listener', 'exports.hook_log = function () {}').plugin('talker', `exports.hook_send_email = function (next) {
        for (let i = 0; i < 1500; ++i) this.loginfo('line ' + i)
        next()
    }`).start()
    await engine.call('attempt')
    await engine.logged(/line 1499/)
    engine.wire.send({ t: 'shutdown' })
    await engine.logged(/line 999/)
    await engine.exited
})

// ---- plugins of Haraka's package -----------------------------------------------------------------------------------

// The package as npm gives it, found where these tests find their own packages.
function haraka(engine) {
    const home = (process.env.NODE_PATH || '').split(path.delimiter).find((folder) => fs.existsSync(path.join(folder, 'Haraka', 'package.json')))
    if (!home) return false
    fs.symlinkSync(home, path.join(engine.directory, 'node_modules'))
    return true
}

test('status and process_title of the Haraka package run as they are', async (t) => {
    const engine = new Engine(t)
    if (!haraka(engine)) return t.skip('the package Haraka is not installed')
    const orders = await controlOf(t, engine)
    engine.list = ['status', 'process_title']
    await engine.plugin('asker', `exports.register = function () { this.inherits('status') }
        exports.hook_send_email = async function (next, hmail) {
            const run = (command) => new Promise((resolve) => this.run(command, (error, result) => resolve(error || result)))
            hmail.todo.notes.told = [
                await run('QUEUE STATS'), (await run('QUEUE LIST')).map((todo) => [todo.file, todo.from, todo.to]), await run('QUEUE INSPECT'),
                await run('QUEUE PUSH 0MESSAGE00001.1'), await run('QUEUE DISCARD 0MESSAGE00001.1'), await run('POOL LIST'), process.title,
            ]
            next()
        }`).start()
    assert.deepStrictEqual(engine.ready.plugins, ['status', 'process_title', 'asker'])
    await new Promise((resolve) => setTimeout(resolve, 1100)) // the title changes each second
    const from = ['<a@here.test>', ['<b@there.test>']]
    const told = await asked(engine)
    assert.match(told.pop(), /^Haraka cn=0 /)
    assert.deepStrictEqual(told, [
        '3/5/7', [['0MESSAGE00001.1', ...from], ['0MESSAGE00002.1', ...from]],
        {
            delivery_queue: [{ id: '0MESSAGE00002.1' }],
            temp_fail_queue: [{ id: '0MESSAGE00001.1', fire_time: Date.parse('2026-11-21T12:30:00Z') }],
        },
        'OK', 'OK', {},
    ])
    while (orders.length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
    assert.deepStrictEqual(orders, [['/v1/queue/flush', { item: '0MESSAGE00001.1' }], ['/v1/queue/delete', { item: '0MESSAGE00001.1' }]])
})

test('what borrows modules of the Haraka package finds them, with our logger', async (t) => {
    const engine = new Engine(t)
    if (!haraka(engine)) return t.skip('the package Haraka is not installed')
    engine.list = ['queue/smtp_forward', 'queue/lmtp', 'queue/deliver']
    engine.config('smtp_forward.ini', 'host=127.0.0.1\nport=1\n')
    await engine.plugin('asker', `exports.hook_send_email = function (next, hmail) {
        hmail.todo.notes.told = [typeof this.haraka_require('smtp_client').get_client_plugin, typeof require('./tls_socket').connect]
        next()
    }`).start()
    assert.deepStrictEqual(engine.ready.broken, [])
    assert.deepStrictEqual(await asked(engine), ['function', 'function'])
})

test('what listening to the log costs is counted, and who takes too long there is passed over', async (t) => {
    const engine = new Engine(t)
    engine.plugin('slow', `exports.hook_log = function (next, logger, item) {
        const end = Date.now() + (item.obj.message === 'slowly' ? 250 : 0)
        while (Date.now() < end);
        next(item.obj.message === 'taken' ? OK : CONT)
    }`)
    engine.plugin('talker', `exports.hook_send_email = function (next, hmail) { this.lognotice(hmail.todo.domain); next() }`)
    await engine.start({ budgets: { busy_ms: 150, times: 1, rest_ms: 60_000 } })
    const say = (domain) => engine.call('attempt', { id: `0${domain.length}BCDEFGHJKMN.1`, domain })
    await say('taken')
    await say('slowly')
    await engine.logged(/^slowly$/)
    await engine.logged(/log is passed over for 60 s/)
    assert.ok(!engine.logs.some(({ text }) => text === 'taken'))
    await say('taken')
    await engine.logged(/^taken$/)
    const { rows } = await engine.expect(({ t, rows }) => t === 'metrics' && rows.some((row) => row[0] === 'talker' && row[2] === 3))
    const [, hook, calls, , busy, , , , over, passed] = rows.find((row) => row[0] === 'slow')
    assert.deepStrictEqual([hook, calls >= 2, busy > 240, over, passed > 0], ['log', true, true, 1, true])
    const talker = rows.find((row) => row[0] === 'talker')
    assert.ok(talker[4] < 150 && talker[8] === 0, `what it waited for the listener is not its own: ${talker}`)
})

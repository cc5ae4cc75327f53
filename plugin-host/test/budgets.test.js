'use strict'
// Who is over a budget is named, rests when that happens again and again, and comes back.

const assert = require('node:assert')
const { test } = require('node:test')
const { Budgets } = require('../lib/budgets')
const { Engine } = require('./support')

// Budgets with a clock that stands still, and meters of what is `named`: [[plugin, hook]].
function budgetsOf(limits, named, resting) {
    const world = { now: 0, said: [] }
    const budgets = new Budgets((plugin, sentence) => world.said.push(`${plugin}: ${sentence}`), (plugin) => `/i/${plugin}.js`, () => world.now)
    budgets.configure(limits, resting)
    world.meters = named.map(([plugin, hook]) => {
        const meter = { plugin, hook, over: 0, passed: 0, changed: false }
        meter.standing = budgets.open(meter)
        return meter
    })
    return Object.assign(world, { budgets })
}

const LIMITS = { busy_ms: 100, times: 3, rest_ms: 30_000 }

test('three times within a minute, and the hook rests; once more within a minute after that, and it rests twice as long', () => {
    const world = budgetsOf(LIMITS, [['a', 'get_mx'], ['a', 'bounce']])
    const [{ standing }, other] = world.meters
    const overAt = (now) => { world.now = now; standing.ranFor(150) }
    standing.ranFor(100)
    assert.deepStrictEqual(world.said, [], 'what is within the budget is not over it')
    for (const now of [1_000, 2_000, 61_500]) overAt(now)
    assert.ok(!standing.rests(), 'the first is more than a minute ago')
    assert.deepStrictEqual(world.said, [
        'a: get_mx ran for 150 ms without giving way; call_busy_max is 100 ms (/i/a.js)',
        'a: get_mx ran for 150 ms without giving way; call_busy_max is 100 ms (/i/a.js)',
    ], 'at most once a minute')
    overAt(61_600)
    assert.ok(standing.rests())
    assert.ok(!other.standing.rests(), 'only the hook that it was')
    assert.match(world.said.at(-1), /^a: get_mx is passed over for 30 s: over its budget 3 times within a minute \(/)
    const [[plugin, hook, until]] = world.budgets.restingNow()
    assert.deepStrictEqual([plugin, hook], ['a', 'get_mx'])
    assert.ok(Math.abs(until - Date.now() - 30_000) < 5_000)

    world.now = 91_600
    assert.ok(!standing.rests())
    assert.match(world.said.at(-1), /get_mx is asked again/)
    assert.deepStrictEqual(world.budgets.restingNow(), [])
    overAt(91_700)
    assert.match(world.said.at(-1), /passed over for 60 s: over its budget again/)
    world.now = 151_700
    assert.ok(!standing.rests())
    overAt(151_700 + 60_001)
    assert.ok(!standing.rests(), 'it behaved for a minute')
    assert.strictEqual(world.meters[0].over, 6)
})

test('a rest is never longer than ten minutes', () => {
    const world = budgetsOf({ ...LIMITS, times: 1, rest_ms: 400_000 }, [['a', 'data']])
    const [{ standing }] = world.meters
    standing.ranFor(101)
    world.now = 400_000
    assert.ok(!standing.rests())
    standing.ranFor(101)
    assert.match(world.said.at(-1), /for 600 s/)
})

test('0 is no budget, and no rest; timers and init_master are warned of and never left out', () => {
    const none = budgetsOf({}, [['a', 'get_mx']])
    none.meters[0].standing.ranFor(1e9)
    none.budgets.seeHeap({ a: 1e12 }, {})
    assert.deepStrictEqual([none.meters[0].over, none.said], [0, []])
    const warned = budgetsOf({ ...LIMITS, times: 0 }, [['a', 'get_mx']])
    for (let i = 0; i < 9; i++) warned.meters[0].standing.ranFor(101)
    assert.deepStrictEqual([warned.meters[0].over, warned.meters[0].standing.rests()], [9, false])
    const never = budgetsOf({ ...LIMITS, times: 1 }, [['a', 'timers'], ['a', 'init_master']], [['a', '', 1000]])
    for (const { standing } of never.meters) standing.ranFor(101)
    assert.deepStrictEqual(never.meters.map(({ over, standing }) => [over, standing.rests()]), [[1, false], [1, false]])
})

test('a heap over its budget is counted where most of it comes from, and all hooks of that plugin rest', () => {
    const world = budgetsOf({ times: 2, rest_ms: 1000, heap_bytes: 100 << 20 }, [['a', 'get_mx'], ['a', 'bounce'], ['b', 'get_mx']])
    const [first, second, innocent] = world.meters
    world.budgets.seeHeap({ a: 300 << 20, b: 100 << 20 }, { a: 'bounce' })
    assert.deepStrictEqual([first.over, second.over, innocent.over], [0, 1, 0])
    assert.deepStrictEqual(world.said, ['a: a holds 300 MiB of the heap; plugin_heap_bytes_max is 100 MiB (/i/a.js)'])
    world.budgets.seeHeap({ a: 300 << 20 }, {})
    assert.deepStrictEqual([first.over, second.over], [1, 1], 'a hook that is not known: the first')
    world.budgets.seeHeap({ a: 300 << 20 }, { a: 'bounce' })
    assert.deepStrictEqual([first, second, innocent].map(({ standing }) => standing.rests()), [true, true, false])
})

test('a heap over its budget that comes from what is never passed over: the others rest once, and longer when it goes on', () => {
    const world = budgetsOf({ times: 2, rest_ms: 30_000, heap_bytes: 100 << 20 }, [['a', 'init_master'], ['a', 'get_mx'], ['a', 'bounce']])
    const seen = (now) => { world.now = now; world.budgets.seeHeap({ a: 300 << 20 }, { a: 'init_master' }) }
    const passed = () => world.said.filter((said) => /passed over/.test(said)).length
    for (let now = 0; now < 20_000; now += 1000) seen(now)
    assert.deepStrictEqual([passed(), world.meters.map(({ standing }) => standing.rests())], [2, [false, true, true]])
    world.now = 31_000
    assert.deepStrictEqual(world.meters.map(({ standing }) => standing.rests()), [false, false, false])
    seen(31_500)
    assert.match(world.said.at(-1), /bounce is passed over for 60 s: over its budget again/)
    assert.deepStrictEqual([passed(), world.meters.map(({ standing }) => standing.rests())], [4, [false, true, true]])
})

test('what ended earlier hosts rests from the beginning: one hook, or all of a plugin', () => {
    const world = budgetsOf(LIMITS, [['a', 'get_mx'], ['a', 'bounce'], ['b', 'get_mx'], ['b', 'bounce']], [['a', '', 5000], ['b', 'bounce', 5000]])
    assert.deepStrictEqual(world.meters.map(({ standing }) => standing.rests()), [true, true, false, true])
})

const HEAVY = `exports.hook_get_mx = function (next, hmail, domain) {
    const end = performance.now() + (domain === 'heavy.test' ? 250 : 0)
    while (performance.now() < end);
    next(OK, 'mx.test')
}`

test('a hook that blocks again and again is passed over in the safe way, others are asked, and all of it is told', async (t) => {
    const engine = new Engine(t).plugin('heavy', HEAVY.replaceAll('performance', 'Date'))
    engine.plugin('beside', 'exports.hook_get_mx = (next) => next()')
    await engine.start({ budgets: { busy_ms: 150, times: 3, rest_ms: 60_000 } })
    const ask = (id, domain) => engine.call('attempt', { id: `${id}BCDEFGHJKMN.1`, domain })
    for (const id of ['00', '01', '02']) assert.strictEqual((await ask(id, 'heavy.test')).what, 'go')
    const passed = await ask('03', 'light.test')
    assert.deepStrictEqual([passed.what, passed.text, passed.by], ['denysoft', 'plugin passed over', 'heavy'])
    const file = `${engine.directory}/plugins/heavy.js`
    const over = await engine.logged(/get_mx ran for \d+ ms without giving way/)
    assert.deepStrictEqual([over.origin, over.level, over.text.includes(file)], ['heavy', 4, true])
    await engine.logged(/get_mx is passed over for 60 s: over its budget 3 times within a minute/)
    const told = await engine.expect(({ t, rows }) => t === 'metrics' && rows.some(([plugin, , , , , , , , , passed]) => plugin === 'heavy' && passed))
    const [, , calls, , , , timeouts, , overTimes, passedTimes] = told.rows.find(([plugin]) => plugin === 'heavy')
    assert.deepStrictEqual([calls, timeouts, overTimes, passedTimes], [3, 0, 3, 1])
    assert.deepStrictEqual(told.resting.map(([plugin, hook]) => [plugin, hook]), [['heavy', 'get_mx']])
})

test('what passing over means is what silence means; and it ends', async (t) => {
    const engine = new Engine(t).plugin('blamed', `
        for (const hook of ['send_email', 'bounce', 'deferred', 'delivered']) exports['hook_' + hook] = (next) => next(DENY)
        for (const hook of ['mail', 'queue', 'quit']) exports['hook_' + hook] = (next) => next(DENY)`)
    await engine.start({ budgets: { times: 3, rest_ms: 1000 }, resting: [['blamed', '', 800]] })
    assert.strictEqual((await engine.call('attempt')).what, 'go')
    assert.strictEqual((await engine.call('bounce', {}, { reason: 'no', of: [0] })).what, 'default')
    assert.strictEqual((await engine.call('deferred', {}, { reason: 'later', of: [0], delay: 60 })).what, 'default')
    const session = engine.session()
    assert.deepStrictEqual(await session.mail(), { what: 'denysoft', code: 451, text: ['plugin passed over'], by: 'blamed' })
    assert.strictEqual((await session.ask('quit')).what, 'cont')
    while ((await engine.call('bounce', {}, { reason: 'no', of: [0] })).what !== 'silent') await new Promise((resolve) => setTimeout(resolve, 20))
    await engine.logged(/bounce is asked again/)
})

test('a plugin that holds too much is named with the hook that it comes from', async (t) => {
    const engine = new Engine(t)
    engine.plugin('small', 'exports.hook_get_mx = (next) => next()')
    engine.plugin('hoards', `const held = []
        const hoard = () => { for (let i = 0; i < 400; i++) held.push(new Array(10000).fill(i)) }
        exports.hook_delivered = (next) => next()
        exports.hook_send_email = async function (next) { await null; hoard(); next() }`)
    await engine.start({ budgets: { heap_bytes: 20 << 20, times: 2, rest_ms: 60_000 } })
    await engine.call('attempt')
    await engine.logged(/^hoards holds \d+ MiB of the heap; plugin_heap_bytes_max is 20 MiB \(.*hoards\.js\)/)
    const { heap_hooks } = await engine.expect(({ t, heap }) => t === 'metrics' && heap.hoards > 20e6)
    assert.strictEqual(heap_hooks.hoards, 'send_email')
    await engine.logged(/delivered is passed over for 60 s/)
    const { resting } = await engine.expect(({ t, resting }) => t === 'metrics' && resting.length > 0)
    assert.deepStrictEqual(resting.map(([plugin, hook]) => `${plugin} ${hook}`).sort(), ['hoards delivered', 'hoards send_email'])
})

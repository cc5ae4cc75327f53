'use strict'
// Loading plugins, what they find there, and how the host lives and dies.

const assert = require('node:assert')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { test } = require('node:test')
const { Items } = require('../lib/items')
const { Engine } = require('./support')

const ROUTE = 'exports.hook_get_mx = function (next) { next(OK, "mx.test") }'
const TELL = (expression) => `exports.hook_send_email = async function (next, hmail) {
    hmail.todo.notes.told = await (${expression})
    next()
}`
const told = (answer) => JSON.parse(answer.image).notes.told

test('the list is followed: order, renames, native plugins, each once', async (t) => {
    const engine = new Engine(t)
    engine.plugin('one', ROUTE).plugin('limit', ROUTE).plugin('tls', ROUTE)
    engine.list = ['# a comment', 'haraka-plugin-one', 'tls', 'rate_limit', 'limit']
    await engine.start({ native: ['tls', 'relay'] })
    assert.deepStrictEqual(engine.ready.plugins, ['one', 'limit'])
})

test('what does not load is left out and reported', async (t) => {
    const engine = new Engine(t)
    engine.plugin('bad/syntax', 'exports.x = {')
    engine.plugin('bad/register', 'exports.register = function () { this.register_hook("get_mx", "x"); throw new Error("not today") }')
    engine.plugin('bad/null', 'throw null').plugin('bad/rejection', 'exports.register = () => Promise.reject()')
    engine.plugin('good', ROUTE)
    engine.list.push('absent')
    await engine.start()
    assert.deepStrictEqual(engine.ready.plugins, ['good'])
    assert.deepStrictEqual(engine.ready.failed.map(({ name }) => name), ['absent'])
    assert.deepStrictEqual(engine.ready.broken.map(({ name }) => name), ['bad/syntax', 'bad/register', 'bad/null', 'bad/rejection'])
    const reasons = Object.fromEntries([...engine.ready.failed, ...engine.ready.broken].map(({ name, reason }) => [name, reason]))
    assert.match(reasons['bad/syntax'], /syntax\.js:1/)
    assert.match(reasons['bad/register'], /not today[\s\S]*register\.js:1/)
    assert.match(reasons['bad/null'], /null was thrown/)
    assert.match(reasons['bad/rejection'], /undefined was thrown/)
    assert.match(reasons.absent, /neither in plugins\/ nor in node_modules\//)
    assert.strictEqual((await engine.call('attempt')).mx[0].host, 'mx.test')
})

test('without its packages it says how they are installed', (t) => {
    const home = path.join(__dirname, '..')
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sluice-host-'))
    t.after(() => fs.rmSync(folder, { recursive: true, force: true }))
    for (const part of ['index.js', 'try.js', 'package.json', 'lib']) fs.cpSync(path.join(home, part), path.join(folder, part), { recursive: true })
    for (const program of ['index.js', 'try.js']) {
        const done = spawnSync(process.execPath, [path.join(folder, program), '/srv/mail', 'x'], { encoding: 'utf8', env: { PATH: process.env.PATH } })
        assert.strictEqual(done.status, 1)
        assert.match(done.stderr, /^\S+ lacks .*haraka-config, .*: npm install --prefix \/srv\/mail --install-links \S+\n$/)
    }
})

test('what the engine counts on is broken when it is gone, listed or not', async (t) => {
    const engine = new Engine(t).plugin('here', ROUTE)
    engine.list.push('absent', 'never')
    await engine.start({ order: ['absent', 'here', 'unlisted'] })
    assert.deepStrictEqual(engine.ready.plugins, ['here'])
    assert.deepStrictEqual(engine.ready.broken.map(({ name, reason }) => [name, reason.slice(0, 16)]), [
        ['absent', 'plugin `absent` '], ['unlisted', 'plugin `unlisted'],
    ])
    assert.deepStrictEqual(engine.ready.failed.map(({ name }) => name), ['never'])
})

test('broken plugins may be ignored', async (t) => {
    const engine = new Engine(t).config('smtp.ini', 'ignore_bad_plugins=true\n')
    engine.plugin('bad', 'exports.register = function () { this.inherits("absent") }').plugin('good', ROUTE)
    await engine.start()
    assert.deepStrictEqual(engine.ready.broken, [])
    assert.deepStrictEqual(engine.ready.failed.map(({ name }) => name), ['bad'])
})

test('hooks that the engine does not call yet are named', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('mixed', `${ROUTE}; exports.hook_init_wss = function (next) { next() }`).start()
    assert.deepStrictEqual(engine.ready.uncalled, [{ hook: 'init_wss', plugin: 'mixed' }])
    assert.deepStrictEqual(Object.keys(engine.ready.hooks), ['get_mx'])
})

test('packages find constants and server without asking', async (t) => {
    const engine = new Engine(t)
    engine.package('packed', `exports.register = function () { server.notes.seen = 'yes'; this.register_hook('get_mx', 'route') }
        exports.route = function (next) { server.loginfo(this, 'routed'); next(OK, server.notes.seen + '.test') }`)
    await engine.start()
    assert.strictEqual((await engine.call('attempt')).mx[0].host, 'yes.test')
    assert.strictEqual((await engine.logged(/routed/)).origin, 'packed')
})

test('of an ini file there is what it has, and what plugins of old ask of it', async (t) => {
    const engine = new Engine(t).config('thing.ini', 'n=1\n[sub]\nyes=1\n')
    engine.plugin('reader', TELL(`(() => {
        const c = this.config.get('thing.ini')
        const names = []
        for (const name in c) names.push(name)
        return [c.hasOwnProperty('sub'), c.sub.hasOwnProperty('no'), names, c.constructor, c.sub.toString, c.hasOwnProperty('hasOwnProperty')]
    })()`))
    await engine.start()
    assert.deepStrictEqual(told(await engine.call('attempt')), [true, false, ['main', 'sub'], null, null, false])
})

test('legacy plugins inherit, require and find their globals', async (t) => {
    const engine = new Engine(t)
    engine.plugin('parent', `exports.register = function () { this.register_hook('get_mx', 'route') }
        exports.route = function (next) { next(OK, this.prefix() + '.test') }
        exports.prefix = () => 'parent'`)
    engine.list = []
    engine.plugin('child', `exports.register = function () { this.inherits('parent') }
        exports.prefix = function () {
            const fs = require('fs'), path = require('node:path'), local = require('./local')
            if (!fs.existsSync(__filename) || path.dirname(__filename) !== __dirname) throw new Error('where am I?')
            if (this.haraka_require('logger').LOGINFO !== 6 || require('./config') !== this.config) throw new Error('core')
            return 'child-of-' + Object.keys(this.base) + '-' + local
        }`)
    fs.writeFileSync(path.join(engine.directory, 'plugins', 'local.js'), 'module.exports = "x"')
    await engine.start()
    assert.strictEqual((await engine.call('attempt')).mx[0].host, 'child-of-parent-x.test')
})

test('a legacy plugin may be written as a module; a priority beyond the range is its end', async (t) => {
    const engine = new Engine(t)
    engine.plugin('last', `module.exports = {
        register() { this.register_hook('get_mx', 'route', 500); this.register_hook('get_mx', 'never', 'x') },
        route(next) { next(OK, this.name + '.test') },
        never(next) { next() },
    }`)
    await engine.start()
    assert.deepStrictEqual(engine.ready.roster.hooks.get_mx.map(({ method, priority }) => [method, priority]), [['never', 0], ['route', 100]])
    assert.strictEqual((await engine.call('attempt')).mx[0].host, 'last.test')
})

test('a hook that is registered later is told of then, once for all that come together', async (t) => {
    const engine = new Engine(t)
    engine.plugin('late', `exports.register = function () {
            setTimeout(() => { this.register_hook('get_mx', 'route'); this.register_hook('delivered', 'hear') }, 50)
        }
        exports.route = (next) => next(OK, 'late.test')
        exports.hear = (next) => next()`)
    await engine.start()
    assert.deepStrictEqual(engine.ready.hooks, {})
    const ready = await engine.expect((message) => message.t === 'ready')
    assert.deepStrictEqual(Object.keys(ready.hooks), ['get_mx', 'delivered'])
    assert.strictEqual((await engine.call('attempt')).mx[0].host, 'late.test')
    assert.ok(!engine.other.some((message) => message.t === 'ready'))
})

test('configuration of every type, read again when a file changes', async (t) => {
    const engine = new Engine(t)
    engine.config('thing.ini', 'n=1\n[sub]\nyes=true\n').config('thing.json', '{"a":[1]}').config('list', 'a\n# no\nb\n').config('value', '17\n')
    engine.config('thing.yaml', 'b: 2\n')
    engine.plugin('reader', `exports.register = function () {
            this.load = () => { this.cfg = this.config.get('thing.ini', { booleans: ['-sub.yes', '+sub.no'] }, () => this.load()) }
            this.load()
        }
        exports.hook_send_email = function (next, hmail) {
            const c = this.config
            hmail.todo.notes.told = [this.cfg.main.n, this.cfg.sub.yes, this.cfg.sub.no, c.get('thing.json').a[0], c.get('thing.yaml').b,
                c.get('list', 'list').length, c.get('value'), c.get('absent')]
            next()
        }`)
    await engine.start()
    assert.deepStrictEqual(told(await engine.call('attempt')), [1, true, true, 1, 2, 2, 17, null])
    engine.config('thing.ini', 'n=2\n')
    for (let answer; ;) {
        answer = await engine.call('attempt', { id: `0ABCDEFGHJKMN.${engine.lastCall + 2}` })
        if (told(answer)[0] === 2) break
        await new Promise((resolve) => setTimeout(resolve, 100))
    }
})

test('a package brings defaults, over which the files of the instance lie; other types are read as Haraka does', async (t) => {
    const engine = new Engine(t)
    engine.package('packed', `exports.register = function () { this.register_hook('send_email', 'tell') }
        exports.tell = async function (next, hmail) {
            const c = this.config
            hmail.todo.notes.told = [
                c.get('p.ini', { booleans: ['+main.on', '-sub.off'] }), c.get('p.json'), c.get('p.yaml'), c.get('p.list', 'list'), c.get('only.list', 'list'),
                c.get('p.value'), c.get('p.data', 'data'), c.get('p.pem', 'binary').length, c.get('p.bin', 'binary') === null,
                c.get('absent.ini'), c.get('absent.json'), c.get('absent', 'list'), c.getInt('p.value', 7), c.get('replaced.ini').main,
                (await c.getDir('dir', { type: 'binary' })).map(({ path, data }) => [path.split('/').pop(), data.length]),
            ]
            next()
        }`)
    const home = path.join(engine.directory, 'node_modules', 'haraka-plugin-packed', 'config')
    fs.mkdirSync(path.join(home, 'dir'), { recursive: true })
    const defaults = { 'p.ini': 'a=1\nb=2\n[sub]\nx=1\n', 'p.json': '{"a":{"b":1,"c":2}}', 'p.yaml': 'a: {b: 1}\n', 'p.list': 'one\ntwo\n', 'only.list': 'mine\n', 'p.value': '5\n' }
    for (const [name, text] of Object.entries({ ...defaults, 'dir/one': '1', 'dir/two': '22' })) fs.writeFileSync(path.join(home, name), text)
    engine.config('p.ini', 'b=3\non=false\n[sub]\ny=2\noff=yes\n').config('p.json', '{"a":{"c":3}}').config('p.yaml', 'd: 4\n').config('p.list', 'three\n')
    engine.config('p.value', '6\n').config('p.data', '# kept\n\nx\n').config('p.pem', 'abc\n')
    engine.config('smtp.json', '{"!replaced.ini":{"main":{"by":"smtp.json"}}}').config('replaced.ini', 'by=itself\n')
    await engine.start()
    assert.deepStrictEqual(told(await engine.call('attempt')), [
        { main: { a: 1, b: 3, on: false }, sub: { x: 1, y: 2, off: true } }, { a: { b: 1, c: 3 } }, { a: { b: 1 }, d: 4 }, ['three'], ['mine'],
        6, ['# kept', '', 'x'], 4, true, { main: {} }, {}, [], 6, { by: 'smtp.json' }, [['one', 1], ['two', 2]],
    ])
})

test('live notes are shared by the items of a message until the last one has ended', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('count', `exports.hook_send_email = function (next, hmail) {
        hmail.notes.calls = (hmail.notes.calls || []).concat(() => 1)
        hmail.todo.notes.told = [hmail.notes.calls.length, hmail.todo.notes.mine || 0]
        hmail.todo.notes.mine = (hmail.todo.notes.mine || 0) + 1
        next()
    }`).start()
    const ask = async (id) => told(await engine.call('attempt', { id, items: 2 }))
    assert.deepStrictEqual(await ask('0ABCDEFGHJKMN.1'), [1, 0])
    assert.deepStrictEqual(await ask('0ABCDEFGHJKMN.2'), [2, 0])
    assert.deepStrictEqual(await ask('0ABCDEFGHJKMN.1'), [3, 1])
    assert.deepStrictEqual(await ask('0BBCDEFGHJKMN.1'), [1, 0])
    engine.wire.send({ t: 'ended', items: ['0ABCDEFGHJKMN.1'] })
    assert.deepStrictEqual(await ask('0ABCDEFGHJKMN.2'), [4, 1])
    engine.wire.send({ t: 'ended', items: ['0ABCDEFGHJKMN.2'] })
    assert.deepStrictEqual(await ask('0ABCDEFGHJKMN.2'), [1, 0])
})

test('live notes of a message that rests stay, however many messages have items under way; those that rest are bounded', () => {
    const items = new Items({
        directory: '/nowhere', queueFolder: '/nowhere/queue/', makeAddress: (text) => ({ format: () => text }), logger: { addTo() {} }, registry: { has: () => true },
    })
    const given = (message, index) => ({
        id: `${message}.${index}`, message, items: 2, attempts: 0, arrival: 1, now: 1, size: 1, domain: 'there.test', mail_from: '<a@here.test>',
        rcpt_to: ['<b@there.test>'], places: [0], notes: {},
    })
    items.get(given('RESTS', 0)).notes.mark = 'kept'
    items.ended('RESTS.0')
    for (let n = 0; n <= 10_000; ++n) items.get(given(`M${n}`, 0))
    assert.strictEqual(items.get(given('RESTS', 1)).notes.mark, 'kept')
    for (let n = 0; n <= 10_000; ++n) items.ended(`M${n}.0`)
    assert.strictEqual(items.messages.size, 10_001)
    assert.ok(!items.messages.has('M0'))
})

test('a plugin that throws nothing where nobody expects it is answered for all the same', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `exports.hook_send_email = function (next, hmail) {
        Object.defineProperty(hmail.todo, 'force_tls', { get() { throw null } })
        next()
    }`).start()
    const { what, text } = await engine.call('attempt')
    assert.deepStrictEqual([what, text], ['failed', 'null'])
})

test('half a character that a plugin leaves is none to the engine', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('cuts', `exports.hook_get_mx = function (next, hmail) {
        const half = 'cut \u{1F600}'.slice(0, -1)
        this.logwarn(half)
        hmail.todo.notes.told = [half, '\\\\ud83d', '\u{1F600}']
        next(DENY, half)
    }`).start()
    const answer = await engine.call('attempt')
    assert.strictEqual(answer.text, 'cut \ufffd')
    assert.deepStrictEqual(told(answer), ['cut \ufffd', '\\ud83d', '\u{1F600}'])
    await engine.logged(/^cut \ufffd$/)
})

test('the image brings notes and the todo back into another host', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('keeper', `exports.hook_get_mx = function (next, hmail) {
        const rcpt = hmail.todo.rcpt_to[0]
        const seen = [hmail.todo.notes.get('a.b'), hmail.notes.live, rcpt.mark, hmail.todo.force_tls, hmail.todo.notes.given]
        hmail.todo.notes.set('a.b', 'kept')
        hmail.notes.live = 'too'
        hmail.notes.self = hmail.notes
        rcpt.mark = 7
        hmail.todo.force_tls = true
        next(OK, seen.map(String).join('.') + '.test')
    }`).start()
    const first = await engine.call('attempt', { notes: { given: 'yes' } })
    assert.strictEqual(first.mx[0].host, 'undefined.undefined.undefined.false.yes.test')
    await engine.restart()
    const second = await engine.call('attempt', { image: first.image })
    assert.strictEqual(second.mx[0].host, 'kept.too.7.true.yes.test')
    assert.strictEqual(second.terms.force_tls, true)
})

test('live notes are put together from the images of all items', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('tell', TELL('{ ...hmail.notes }')).start()
    const ask = async (id, live) => told(await engine.call('attempt', { id, items: 2, image: JSON.stringify({ notes: {}, live }) }))
    assert.deepStrictEqual(await ask('0ABCDEFGHJKMN.1', { first: 1 }), { first: 1 })
    assert.deepStrictEqual(await ask('0ABCDEFGHJKMN.2', { first: 0, second: 2 }), { first: 1, second: 2 })
    assert.deepStrictEqual(await ask('0ABCDEFGHJKMN.1', {}), { first: 1, second: 2 })
})

test('an item whose notes nobody changed has no image', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('route', ROUTE).start()
    assert.strictEqual((await engine.call('attempt', { notes: { x: 1 } })).image, undefined)
})

test('notes that cannot be read, or are called like what notes have, harm nothing', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('odd', `exports.hook_get_mx = function (next, hmail) {
        Object.defineProperty(hmail.todo.notes, 'broken', { enumerable: true, get() { throw new Error('not to be read') } })
        hmail.todo.notes.big = 1n
        hmail.todo.notes.good = [typeof hmail.todo.notes.get, typeof hmail.notes.set, hmail.todo.notes.polluted, ({}).polluted].map(String)
        next(OK, 'a.test')
    }`).start()
    const given = JSON.parse('{"get":1,"set":2,"__proto__":{"polluted":1}}')
    const { mx, image } = await engine.call('attempt', { notes: given }, { noted: given })
    assert.strictEqual(mx[0].host, 'a.test')
    assert.deepStrictEqual(JSON.parse(image).notes.good, ['function', 'function', 'undefined', 'undefined'])
    assert.ok(!image.includes('broken'))
})

test('what a plugin leaves of an item that cannot be worked with is made again', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('breaks', `exports.hook_get_mx = function (next, hmail, domain) {
        hmail.notes.calls = (hmail.notes.calls || 0) + 1
        if (hmail.num_failures === 0) domain === 'null.test' ? hmail.todo = null : Object.freeze(Object.freeze(hmail).todo)
        next(OK, 'again' + hmail.notes.calls + '.test')
    }`).plugin('after', 'exports.hook_deferred = (next) => next()').start()
    for (const [number, domain] of ['null.test', 'frozen.test'].entries()) {
        const id = `0${number}CDEFGHJKMN.1`
        const first = await engine.call('attempt', { id, domain })
        const second = await engine.call('attempt', { id, domain, attempts: 1 })
        assert.deepStrictEqual([first.what, second.what, second.mx[0].host], ['failed', 'go', 'again2.test'])
    }
})

test('notes without measure are not kept, and said to be', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('big', TELL('"x".repeat(100000)')).start()
    assert.strictEqual((await engine.call('attempt')).image, undefined)
    await engine.logged(/are not kept for a restart/)
})

for (const [generation, expression, expected] of [
    ['3.1', 'rcpt.address() + rcpt.format() + rcpt.isNull()', 'One@There.test<One@There.test>false'],
    ['3.2', 'rcpt.address + rcpt.format() + rcpt.isNull()', 'One@There.test<One@There.test>false'],
    ['both', 'rcpt.address() + rcpt.address.toLowerCase()', 'One@There.testone@there.test'],
]) {
    test(`addresses as of Haraka ${generation}`, async (t) => {
        const engine = new Engine(t)
        await engine.plugin('tell', `exports.hook_send_email = function (next, hmail) {
            const rcpt = hmail.todo.rcpt_to[0]
            hmail.todo.notes.told = ${expression}
            next()
        }`).start({ addresses: generation })
        assert.strictEqual(told(await engine.call('attempt', { rcpt_to: ['<One@There.test>'] })), expected)
    })
}

test('what Haraka is installed decides about addresses', async (t) => {
    const engine = new Engine(t)
    const folder = path.join(engine.directory, 'node_modules', 'Haraka')
    fs.mkdirSync(folder, { recursive: true })
    fs.writeFileSync(path.join(folder, 'package.json'), '{"version":"3.1.6"}')
    await engine.plugin('tell', TELL('typeof hmail.todo.rcpt_to[0].address')).start()
    assert.strictEqual(told(await engine.call('attempt')), 'function')
})

test('the message is fetched when somebody reads it', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('read', TELL(`new Promise((resolve, reject) => {
        let text = ''
        hmail.data_stream().on('data', (d) => { text += d }).on('end', () => resolve(text)).on('error', (e) => resolve('no: ' + e.message))
    })`)).start()
    const answer = engine.call('attempt')
    const asked = await engine.expect((message) => message.t === 'read')
    assert.strictEqual(asked.item, '0ABCDEFGHJKMN.1')
    engine.wire.sendOctets(asked.id, Buffer.from('Subject: x\r\n'), false)
    engine.wire.sendOctets(asked.id, Buffer.from('\r\nbody\r\n'), true)
    assert.strictEqual(told(await answer), 'Subject: x\r\n\r\nbody\r\n')
    const second = engine.call('attempt', { id: '0BBCDEFGHJKMN.1' })
    const again = await engine.expect((message) => message.t === 'read')
    engine.wire.send({ t: 'unread', id: again.id, reason: 'gone' })
    assert.strictEqual(told(await second), 'no: gone')
})

test('what plugins throw outside of hooks is contained', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('loose', `exports.hook_get_mx = function (next) {
        setTimeout(() => { throw new Error('thrown later') }, 1)
        setTimeout(() => { Promise.reject(new Error('rejected later')) }, 1)
        setTimeout(() => next(OK, 'mx.test'), 20)
    }`).start()
    assert.strictEqual((await engine.call('attempt')).mx[0].host, 'mx.test')
    assert.match((await engine.logged(/thrown later/)).text, /loose\.js:2/)
    await engine.logged(/rejected later/)
    engine.wire.send({ t: 'ping', n: 5 })
    assert.strictEqual((await engine.expect((message) => message.t === 'pong')).n, 5)
})

test('loggers name the plugin and the item', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('talk', `exports.hook_get_mx = function (next, hmail) {
        this.logwarn('about', { a: 1 }, hmail)
        next()
    }`).start()
    await engine.call('attempt')
    const line = await engine.logged(/^about/)
    assert.deepStrictEqual(line, { t: 'log', level: 4, session: '0ABCDEFGHJKMN.1', origin: 'talk', text: 'about { a: 1 }' })
})

test('shutdown lets plugins finish; without an engine the host ends', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('end', `exports.shutdown = async function () { require('fs').writeFileSync(process.env.HARAKA + '/bye', 'x') }`).start()
    engine.wire.send({ t: 'shutdown' })
    assert.deepStrictEqual(await engine.exited, { code: 0, signal: null })
    assert.ok(fs.existsSync(path.join(engine.directory, 'bye')))
    await engine.start()
    engine.wire.socket.destroy()
    assert.strictEqual((await engine.exited).code, 0)
})

test('nonsense on the socket ends the host', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('route', ROUTE).start()
    engine.wire.socket.write(Buffer.from([0, 0, 0, 0, 0]))
    assert.strictEqual((await engine.exited).code, 1)
})

'use strict'
// Items that plugins divide, and changes that they make too late for their answer.

const assert = require('node:assert')
const { test } = require('node:test')
const { Engine, itemOf } = require('./support')

const THREE = { rcpt_to: ['<a@there.test>', '<b@there.test>', '<c@there.test>'], places: [0, 2, 5] }

function dividing(hook, body) {
    return `exports.hook_${hook} = function (next, hmail) {
        const { todo } = hmail
        const told = (...what) => { todo.notes.told = what }
        ${body}
    }`
}

test('some recipients get an item of their own', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', dividing('send_email', `
        hmail.split_to_new_recipients([todo.rcpt_to[1], todo.rcpt_to[2]], 'two are enough', (part) => {
            told(part.todo.rcpt_to.map(String), part.domain, typeof part.todo.notes.set, part.notes === hmail.notes, todo.rcpt_to.map(String))
            part.todo.notes.part = true
        })
        next()`)).start()
    const { what, edits, image } = await engine.call('attempt', { ...THREE, notes: { of: 'all' } })
    assert.strictEqual(what, 'go')
    assert.deepStrictEqual(JSON.parse(image).notes, {
        of: 'all', told: [['<b@there.test>', '<c@there.test>'], 'there.test', 'function', true, ['<a@there.test>']],
    })
    const [{ image: kept, ...part }] = edits.parts
    assert.deepStrictEqual(part, { places: [2, 5], by: 'only', rcpt: [] })
    assert.deepStrictEqual(JSON.parse(kept).notes, { of: 'all', part: true })
    assert.deepStrictEqual(Object.keys(edits), ['parts'])
})

test('each with a sender and an address of its own, and the rest as it is', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', dividing('get_mx', `
        const Address = todo.mail_from.constructor
        for (const rcpt of todo.rcpt_to.slice(1)) {
            hmail.split_to_new_recipients([rcpt], 'VERP', (part) => {
                part.todo.mail_from = new Address('<verp-' + rcpt.user + '@here.test>')
                if (rcpt.user === 'c') part.todo.rcpt_to = [new Address('<other@there.test>')]
            })
        }
        todo.mail_from.user = 'rest'
        next()`)).start()
    const { edits } = await engine.call('attempt', THREE)
    assert.strictEqual(edits.mail_from, '<rest@here.test>')
    assert.deepStrictEqual(edits.parts.map(({ image, ...part }) => part), [
        { places: [2], by: 'only', mail_from: '<verp-b@here.test>', rcpt: [] },
        { places: [5], by: 'only', mail_from: '<verp-c@here.test>', rcpt: [{ place: 5, to: '<other@there.test>' }] },
    ])
    assert.deepStrictEqual([edits.removed, edits.added, edits.rcpt], [undefined, undefined, undefined])
    // What is gone stays gone, and nothing is divided twice.
    const again = await engine.call('attempt', { rcpt_to: ['<a@there.test>'], places: [0], mail_from: '<rest@here.test>' })
    assert.strictEqual(again.edits, undefined)
})

test('all recipients are the item itself', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', dividing('deferred', `
        hmail.split_to_new_recipients(todo.rcpt_to, 'all', (same) => { told(same === hmail); next() })`)).start()
    const { edits, image } = await engine.call('deferred', THREE, { of: [0, 1, 2], reason: '450 later', partial: false, delay: 60 })
    assert.deepStrictEqual([JSON.parse(image).notes.told, edits], [[true], undefined])
})

const WRONG = {
    'after an attempt': ['deferred', '[todo.rcpt_to[0]]', /asked about an attempt/],
    'recipients of others': ['send_email', "[todo.rcpt_to[0], new todo.mail_from.constructor('<x@else.test>')]", /not all of these/],
    'nobody': ['send_email', '[]', /no recipients/],
    'recipients that the plugin has just added': [
        'send_email', "[todo.rcpt_to[todo.rcpt_to.push(new todo.mail_from.constructor('<x@else.test>')) - 1]]", /not in the queue yet/],
}
for (const [name, [hook, recipients, expected]] of Object.entries(WRONG)) {
    test(`not divided: ${name}`, async (t) => {
        const engine = new Engine(t)
        await engine.plugin('only', dividing(hook, `
            try { hmail.split_to_new_recipients(${recipients}, 'x', () => told('called')) } catch (error) { told(error.message) }
            next()`)).start()
        const point = hook === 'deferred' ? 'deferred' : 'attempt'
        const { edits, image } = await engine.call(point, THREE, { of: [0, 1, 2], reason: '450 later', partial: false, delay: 60 })
        assert.match(JSON.parse(image).notes.told[0], expected)
        assert.strictEqual(edits?.parts, undefined)
        assert.strictEqual(edits?.removed, undefined)
    })
}

test('the live notes of an item are those of its parts', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', dividing('send_email', `
        if (hmail.notes.live) { told(hmail.notes.live()); return next() }
        hmail.notes.live = () => 'the same'
        hmail.split_to_new_recipients([todo.rcpt_to[0]], 'x', () => next())`)).start()
    await engine.call('attempt', { id: '0ABCDEFGHJKMN.1', ...THREE })
    engine.wire.send({ t: 'divided', item: '0ABCDEFGHJKMN.1', message: '0PARTPARTPART' })
    const { image } = await engine.call('attempt', { id: '0PARTPARTPART.0' })
    assert.deepStrictEqual(JSON.parse(image).notes.told, ['the same'])
})

// ---- too late for an answer ----------------------------------------------------------------------------------------

const LATE = (change) => `
    exports.hook_send_email = function (next, hmail) {
        next()
        if (hmail.num_failures > 0) return
        setTimeout(() => {
            const { todo } = hmail
            const Address = todo.mail_from.constructor
            ${change}
            todo.notes.late = true
            hmail.logwarn('changed too late')
        }, 20)
    }
    exports.hook_deferred = (next, hmail) => next()`
const DEFERRED = { of: [0, 1], reason: '450 later', partial: false, delay: 60 }
// One of the three was delivered meanwhile.
const TWO = { attempts: 1, rcpt_to: ['<a@there.test>', '<b@there.test>'], places: [0, 2] }
const CHANGES = {
    'a removal': ['todo.rcpt_to.splice(1, 1)', { removed: [{ place: 2, by: 'only' }] }],
    'the removal of one that was delivered': ['todo.rcpt_to.pop()', undefined],
    'an addition': ["todo.rcpt_to.push(new Address('<x@else.test>'))", { added: ['<x@else.test>'], by: 'only' }],
    'another array': ['todo.rcpt_to = [todo.rcpt_to[1]]', { removed: [{ place: 0, by: 'only' }] }],
    'another address': ["todo.rcpt_to[0].user = 'z'", { rcpt: [{ place: 0, to: '<z@there.test>' }] }],
    'another sender': ["todo.mail_from = new Address('<s@here.test>')", { mail_from: '<s@here.test>' }],
    'no array': ['todo.rcpt_to = 42', undefined],
    'nothing': ['', undefined],
}
for (const [name, [change, expected]] of Object.entries(CHANGES)) {
    for (const next of ['attempt', 'deferred']) {
        test(`${name} after the answer counts from the next hook, ${next}`, async (t) => {
            const engine = new Engine(t)
            await engine.plugin('only', LATE(change)).start()
            const first = await engine.call('attempt', THREE)
            assert.deepStrictEqual([first.edits, first.image], [undefined, undefined])
            await engine.logged(/changed too late/)
            const { edits, image } = await engine.call(next, TWO, next === 'deferred' ? DEFERRED : {})
            assert.deepStrictEqual(edits, expected)
            assert.deepStrictEqual(JSON.parse(image).notes, { late: true })
        })
    }
}

test('late changes wait for a hook that may change something', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `${LATE("todo.rcpt_to.shift(); todo.rcpt_to.push(new Address('<x@else.test>'))")}
        exports.hook_bounce = (next) => next()`).start()
    await engine.call('attempt', THREE)
    await engine.logged(/changed too late/)
    await engine.call('bounce', THREE, { of: [2], reason: '550 no', partial: true })
    const { edits } = await engine.call('attempt', TWO)
    assert.deepStrictEqual(edits, { rcpt: [{ place: 0, to: '<x@else.test>' }] })
})

test('after late changes hooks are told of those whom it is about, and of what decided them', async (t) => {
    const engine = new Engine(t)
    const dsn = (code) => ({ action: 'failed', code, status: '5.1.1', response: 'no', mta: 'mx', local: false })
    await engine.plugin('only', `${LATE("todo.rcpt_to.shift(); todo.rcpt_to.push(new Address('<x@else.test>'))").replace(/ +exports.hook_deferred.*/, '')}
        const told = (one) => one + ' ' + one.dsn_smtp_code
        exports.hook_bounce = function (next, { todo }, { bounced_rcpt }) { todo.notes.told = bounced_rcpt.map(told); next() }
        exports.hook_deferred = function (next, { todo }, { fail_recips }) { todo.notes.told = fail_recips.map(told); next() }
        exports.hook_delivered = function (next, hmail, params) { this.logwarn('delivered: ' + params[6].map(told)); next() }`).start()
    await engine.call('attempt', THREE)
    await engine.logged(/changed too late/)
    const item = { ...THREE, dsn: [dsn(550), dsn(551), dsn(552)] }
    engine.wire.send({ t: 'hook', point: 'delivered', item: itemOf(item), of: [0, 2], host: 'mx', ip: '', response: '', delay: 1, port: 25, mode: 'SMTP', secured: false, authenticated: false })
    await engine.logged(/^delivered: <a@there.test> 550,<c@there.test> 552$/)
    const bounced = await engine.call('bounce', item, { of: [2], reason: '550 no', partial: true })
    assert.deepStrictEqual(JSON.parse(bounced.image).notes.told, ['<c@there.test> 552'])
    const { edits, image } = await engine.call('deferred', item, { ...DEFERRED, partial: true })
    assert.deepStrictEqual(JSON.parse(image).notes.told, ['<a@there.test> 550', '<b@there.test> 551'])
    assert.deepStrictEqual(edits, { rcpt: [{ place: 0, to: '<x@else.test>' }] })
})

test('those who only hear may use up the list of whom they hear of', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `
        exports.hook_bounce = exports.hook_delivered = function (next, hmail) {
            while (hmail.todo.rcpt_to.length > 0) hmail.loginfo('heard of ' + hmail.todo.rcpt_to.pop())
            next()
        }
        exports.hook_send_email = (next) => next()`).start()
    await engine.call('attempt', THREE)
    engine.wire.send({ t: 'hook', point: 'delivered', item: itemOf(THREE), of: [2], host: 'mx', ip: '', response: '', delay: 1, port: 25, mode: 'SMTP', secured: false, authenticated: false })
    await engine.logged(/heard of <a@there.test>/)
    await engine.call('bounce', THREE, { of: [1], reason: '550 no', partial: true })
    const { edits } = await engine.call('attempt', { ...TWO, rcpt_to: ['<a@there.test>'], places: [0] })
    assert.strictEqual(edits, undefined)
})

test('who is told of a delivery may use the list up while another question about the item comes', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `
        exports.hook_delivered = function (next, hmail) {
            hmail.todo.rcpt_to.length = 0
            setTimeout(next, 100)
            hmail.logwarn('used up')
        }
        exports.hook_send_email = exports.hook_deferred = (next) => next()`).start()
    await engine.call('attempt', THREE)
    engine.wire.send({ t: 'hook', point: 'delivered', item: itemOf(THREE), of: [2], host: 'mx', ip: '', response: '', delay: 1, port: 25, mode: 'SMTP', secured: false, authenticated: false })
    await engine.logged(/used up/)
    assert.strictEqual((await engine.call('deferred', THREE, { ...DEFERRED, partial: true })).edits, undefined)
    await new Promise((resolve) => setTimeout(resolve, 150))
    assert.strictEqual((await engine.call('attempt', TWO)).edits, undefined)
})

test('who was refused in between is no change of a plugin', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', 'for (const hook of ["send_email", "deferred", "bounce"]) exports["hook_" + hook] = (next) => next()').start()
    await engine.call('attempt', THREE)
    await engine.call('deferred', THREE, { ...DEFERRED, of: [0, 2], partial: true })
    await engine.call('bounce', THREE, { of: [1], reason: '550 no', partial: true })
    const { edits } = await engine.call('attempt', { ...THREE, attempts: 1, rcpt_to: ['<a@there.test>', '<c@there.test>'], places: [0, 5] })
    assert.strictEqual(edits, undefined)
})

'use strict'
// The message object of plugins, without an engine.

const assert = require('node:assert')
const { test } = require('node:test')
const { Transaction } = require('../lib/transaction')

const HEADER = 'Received: from a\r\n\tby b; now\r\nSubject: =?UTF-8?Q?gr=C3=BC=C3=9Fe?=\r\nTo: one@there.test\r\n\r\n'
const BODY = 'first\r\n.dot\r\n..dots\r\n\r\nlast\r\n'

const read = (transaction, options = {}) => new Promise((resolve) => transaction.message_stream.get_data(options, resolve))

function lent(header = HEADER, body = BODY) {
    const transaction = new Transaction('U.1')
    let fetched = 0
    transaction.lend(Buffer.from(header), async () => {
        fetched += 1
        return Buffer.from(header + body)
    })
    return { transaction, fetched: () => fetched }
}

test('the header is there at once, the content is fetched when it is read, and once', async () => {
    const { transaction, fetched } = lent()
    assert.equal(transaction.header.get_decoded('subject'), 'grüße')
    assert.equal(transaction.header.get('received'), 'from a\n\tby b; now\n')
    assert.equal(fetched(), 0)
    assert.equal(String(await read(transaction)), HEADER + BODY)
    assert.equal(String(await read(transaction)), HEADER + BODY)
    assert.equal(String(await read(transaction, { skip_headers: true, line_endings: '\n' })), BODY.replaceAll('\r', ''))
    assert.equal(fetched(), 1)
})

test('fields that plugins add and remove are what readers see', async () => {
    const { transaction } = lent()
    transaction.add_leading_header('X-First', 'one')
    transaction.add_header('X-Last', 'two\r\nSmuggled: no')
    transaction.remove_header('to')
    const text = String(await read(transaction))
    assert.ok(text.startsWith('X-First: one\r\nReceived: from a\r\n'), text)
    assert.ok(text.includes('X-Last: two\r\n Smuggled: no\r\n\r\nfirst'), text)
    assert.ok(!text.includes('To: one'), text)
})

test('a header has as many lines as the engine lets in', async () => {
    const many = 'X: y\r\n'.repeat(1500)
    const { transaction } = lent(many + '\r\n')
    const received = new Transaction('U.2')
    await received.receive(Buffer.from(many + '\r\n' + BODY))
    for (const one of [transaction, received]) assert.equal(one.header.lines().length, 1500)
})

test('a body is parsed: text, attachments, banner, filters', async () => {
    const parts = 'Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n--b\r\n' +
        'Content-Type: application/x-thing\r\nContent-Disposition: attachment; filename=a.bin\r\n\r\nxyz\r\n--b--\r\n'
    const transaction = new Transaction('U.1')
    const seen = []
    transaction.attachment_hooks((ct, name, body, stream) => {
        seen.push(ct, name)
        stream.on('data', () => {})
    })
    transaction.set_banner('Regards')
    transaction.add_body_filter(/plain/, (ct, enc, buffer) => Buffer.from(String(buffer).replace('Hello', 'Goodbye')))
    await transaction.receive(Buffer.from(parts))
    assert.deepEqual(seen, ['application/x-thing', 'a.bin'])
    assert.match(transaction.body.children[0].bodytext, /Hello|Goodbye/)
    const text = String(await read(transaction))
    assert.match(text, /Goodbye/)
    assert.match(text, /Regards/)
    assert.equal(transaction.mime_part_count > 0, true)
})

test('content without an empty line, or with nothing but a body, loses nothing', async () => {
    for (const content of ['Subject: a\r\nno field\r\n', 'Subject: only\r\n']) {
        const transaction = new Transaction('U.1')
        await transaction.receive(Buffer.from(content))
        const text = String(await read(transaction))
        for (const line of content.trim().split('\r\n')) assert.ok(text.includes(line), text)
    }
})

test('lines that a plugin adds itself make a message', async () => {
    const transaction = new Transaction('U.1')
    for (const line of ['Subject: own\r\n', '\r\n', '..stuffed\r\n', 'end\r\n']) transaction.add_data(line)
    await new Promise((resolve) => transaction.end_data(resolve))
    assert.equal(String(await read(transaction)), 'Subject: own\r\n\r\n.stuffed\r\nend\r\n')
})

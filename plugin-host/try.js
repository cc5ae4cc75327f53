'use strict'
// `sluice plugin test`: node try.js DIRECTORY NAME [--hook=HOOK]... [--item=JSON] [--told=JSON] [--addresses=WHICH] [--engine] [--json],
// and about the client of mail in, by the names that `haraka -t` has for them: [--ip=IP] [--helo=NAME | --ehlo=NAME] [--envfrom=ADDRESS]
// [--envrcpt=ADDRESS]... [--message=FILE] [--set-relay] [--user=NAME] [--command=LINE] [--skip-deny] [--dump-stream]
// Exit code 0: it loads and its hooks answer. 1: not so. 2: what was asked makes no sense.

const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const path = require('node:path')
const { parseArgs } = require('node:util')
require('./lib/packages').insist(process.argv[2])
const { LEVELS } = require('./lib/logger')
const { Rehearsal, RehearsalError, POINT_OF, REHEARSED } = require('./lib/rehearsal')

const QUIET_FROM = LEVELS.indexOf('protocol')
const OPTIONS = {
    hook: { type: 'string', multiple: true, default: [] }, item: { type: 'string' }, told: { type: 'string' },
    addresses: { type: 'string' }, engine: { type: 'boolean' }, json: { type: 'boolean' },
    ip: { type: 'string' }, helo: { type: 'string' }, ehlo: { type: 'string' }, envfrom: { type: 'string' },
    envrcpt: { type: 'string', multiple: true }, message: { type: 'string' }, 'set-relay': { type: 'boolean' }, user: { type: 'string' },
    command: { type: 'string' }, 'skip-deny': { type: 'boolean' }, 'dump-stream': { type: 'boolean' },
}

class Misuse extends Error {}

// JSON, or @FILE with some.
function objectOf(option, text) {
    if (text === undefined) return {}
    try {
        const value = JSON.parse(text.startsWith('@') ? fs.readFileSync(text.slice(1), 'utf8') : text)
        if (value && typeof value === 'object' && !Array.isArray(value)) return value
    } catch (error) {
        throw new Misuse(`--${option}: ${error.message}`)
    }
    throw new Misuse(`--${option}: a JSON object is expected`)
}

// What the options say of a client, for Rehearsal.dialogue().
function clientOf(values) {
    if (values.ip !== undefined && !net.isIP(values.ip)) throw new Misuse(`--ip: an IP address is expected, found ${values.ip}`)
    if (values.helo !== undefined && values.ehlo !== undefined) throw new Misuse('--helo: not together with --ehlo')
    const bare = (address) => address.replace(/^<(.*)>$/s, '$1')
    for (const address of [values.envfrom, ...(values.envrcpt || [])]) {
        if (address !== undefined && /[\r\n]/.test(address)) throw new Misuse('an address is one line')
    }
    const given = {
        ip: values.ip, helo: values.helo, ehlo: values.ehlo, from: values.envfrom && bare(values.envfrom), to: values.envrcpt?.map(bare),
        relaying: values['set-relay'], user: values.user, command: values.command, skip_deny: values['skip-deny'],
    }
    if (values.envfrom === '') given.from = ''
    return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
}

function messageOf(file) {
    if (file === undefined) return undefined
    try {
        return fs.readFileSync(file)
    } catch (error) {
        throw new Misuse(`--message: ${error.message}`)
    }
}

// One request to the running engine of the instance.
function askEngine(directory, { method, path: target, query, body }) {
    const search = new URLSearchParams(query).toString()
    return new Promise((resolve, reject) => {
        const options = {
            socketPath: path.join(directory, 'run', 'control.sock'), method, path: target + (search ? `?${search}` : ''),
            headers: { host: 'localhost', 'content-type': 'application/json' },
        }
        const request = http.request(options, (reply) => {
            let text = ''
            reply.setEncoding('utf8').on('data', (data) => { text += data })
            reply.on('end', () => {
                try {
                    resolve([reply.statusCode, JSON.parse(text)])
                } catch {
                    resolve([reply.statusCode, text])
                }
            })
        })
        request.on('error', (error) => reject(new Error(`no engine is running there (${error.message})`)))
        request.end(method === 'POST' ? JSON.stringify(body || {}) : undefined)
    })
}

const hostText = (mx) => (mx.path || (mx.host.includes(':') ? `[${mx.host}]` : mx.host) + (mx.port ? `:${mx.port}` : '')) +
    (mx.lmtp ? ' by LMTP' : '') + (mx.user ? ` as ${mx.user}` : '')

// What the answer means for the mail.
function sentenceOf(hook, { what, mx, terms = {}, seconds, text }) {
    const wishes = [
        terms.force_tls && 'TLS is forced', terms.bind && `from ${terms.bind}`, terms.helo && `as ${terms.helo}`,
    ].filter(Boolean).map((wish) => `, ${wish}`).join('')
    switch (what) {
        case 'go': return (mx ? `goes to ${mx.map(hostText).join(', then ')}` : 'goes where DNS says') + wishes
        case 'delay': return hook === 'deferred' ? `is tried again after ${seconds} s` : `is put off for ${seconds} s; nothing has failed`
        case 'deny': return `bounces: ${text}`
        case 'denysoft': return `is deferred: ${text}`
        case 'failed': return `is deferred, because the host could not ask: ${text}`
        case 'drop': return 'is removed from the queue'
        case 'silent': return 'is given up, and nobody is told'
        default: return { bounce: 'is given up, and the sender is told', deferred: 'is tried again as the schedule says' }[hook] || 'was heard of'
    }
}

function printLogs(logs) {
    for (const line of logs) {
        if (line.level < QUIET_FROM) console.log(`  ${LEVELS[line.level]}: ${line.text.replaceAll('\n', '\n    ')}`)
    }
}

function printAnswer(hook, answer) {
    console.log(`${hook}: the mail ${sentenceOf(hook, answer)} (${answer.ms} ms)`)
    if (answer.notes && Object.keys(answer.notes).length > 0) console.log(`  notes: ${JSON.stringify(answer.notes)}`)
    printLogs(answer.logs)
}

const heardText = ({ hook, said, text, ms }) => `${hook}: ${[said, ...text].join(' ')} (${ms} ms)`

// What hooks of mail in said, and what comes of it.
function printStep(step, { hooks, dump }) {
    for (const heard of step.hooks) if (hooks.includes(heard.hook)) console.log(heardText(heard))
    for (const { code, lines } of step.said || []) console.log(`  the client hears ${code} ${lines.join(' ')}`)
    if (step.refusal) console.log(`  the client is refused: ${step.refusal}`)
    if (step.disconnect) console.log('  the connection is closed')
    if (step.relaying || step.tx_relaying) console.log('  the client may relay')
    if (step.mail_from) console.log(`  the sender is ${step.mail_from}`)
    if (step.rcpt_to) console.log(`  the recipients are ${step.rcpt_to.join(', ')}`)
    if (step.what === 'ok' && step.point === 'content') console.log('  the plugin has taken the message')
    if (step.changed) console.log(`  the message is changed: ${step.changed === 'all' ? 'header and body' : 'the header'}`)
    if (step.notes) console.log(`  notes: ${step.notes}`)
    printLogs(step.logs)
    if (dump && step.content) console.log(step.content.replaceAll('\r\n', '\n'))
}

async function main() {
    let parsed
    try {
        parsed = parseArgs({ options: OPTIONS, allowPositionals: true })
    } catch (error) {
        throw new Misuse(error.message)
    }
    const { values, positionals: [directory, name] } = parsed
    if (!directory || !name) throw new Misuse('an instance directory and the name of a plugin are expected')
    const [item, told] = [objectOf('item', values.item), objectOf('told', values.told)]
    for (const hook of values.hook) {
        if (!REHEARSED.includes(hook)) throw new Misuse(`--hook: one of ${REHEARSED.join(', ')} is expected, found ${hook}`)
    }
    const client = clientOf(values)
    const message = messageOf(values.message)
    const requests = []
    const engine = async (request) => {
        requests.push(request)
        if (values.engine) return askEngine(directory, request)
        return [503, { error: 'there is no engine in a test; with --engine the running one is asked' }]
    }
    const rehearsal = new Rehearsal({ instance: directory, name: name.replace(/^haraka-plugin-/, ''), addresses: values.addresses, engine, message })
    const ready = await rehearsal.start()
    const [plugin] = ready.roster.plugins
    const { able, others } = rehearsal.hooks()
    const say = values.json ? () => {} : (text) => console.log(text)
    say(`${plugin.name}: loaded from ${plugin.path}, timeout ${plugin.timeout > 0 ? `${plugin.timeout} s` : 'none'}`)
    for (const hook of others) say(`${hook}: not rehearsed here`)
    for (const line of rehearsal.logs) if (line.level < QUIET_FROM && line.origin === plugin.name) say(`  ${LEVELS[line.level]}: ${line.text}`)
    const wanted = values.hook.length > 0 ? values.hook : Object.keys(able)
    const absent = wanted.filter((hook) => !able[hook])
    const answers = {}
    for (const hook of wanted) {
        if (absent.includes(hook) || !POINT_OF[hook]) continue
        answers[hook] = await rehearsal.ask(hook, { ...item }, told)
        if (!values.json) printAnswer(hook, answers[hook])
    }
    const ofMailIn = wanted.filter((hook) => able[hook] && !POINT_OF[hook] && hook !== 'log')
    const session = ofMailIn.length > 0 ? await rehearsal.dialogue(client) : []
    const steps = session.filter(({ hooks }) => hooks.some(({ hook }) => ofMailIn.includes(hook)))
    if (!values.json) for (const step of steps) printStep(step, { hooks: ofMailIn, dump: values['dump-stream'] })
    const unreached = ofMailIn.filter((hook) => !steps.some(({ hooks }) => hooks.some((one) => one.hook === hook)))
    for (const hook of unreached) say(`${hook}: not reached; --skip-deny goes on after a refusal, --set-relay lets the client relay`)
    if (wanted.includes('log') && able.log) say(heardText(await rehearsal.showLine()))
    const counts = await rehearsal.close()
    for (const { method, path: target, body } of requests) say(`asked the engine: ${method} ${target}${body ? ` ${JSON.stringify(body)}` : ''}`)
    const bad = counts.filter(({ timeouts, failures }) => timeouts + failures > 0)
    for (const { hook, timeouts, failures } of bad) say(`${hook}: ${timeouts > 0 ? 'did not answer in time' : ''}${failures > 0 ? 'threw or rejected' : ''}`)
    for (const hook of absent) say(`${hook}: ${plugin.name} has no such hook`)
    if (values.json) console.log(JSON.stringify({ plugin, others, answers, session: steps, unreached, counts, requests, absent }))
    return bad.length > 0 || absent.length > 0 || unreached.some((hook) => values.hook.includes(hook)) ? 1 : 0
}

main().then((code) => process.exit(code), (error) => {
    process.stderr.write(`${error instanceof Misuse || error instanceof RehearsalError ? error.message : error.stack}\n`)
    process.exit(error instanceof Misuse ? 2 : 1)
})

'use strict'
// Notifications in the words of plugins, which have put functions of their own into an item, or into all of them.

const { HMailItem } = require('./items')
const { textOf } = require('./logger')

const NOTIFICATION_MS_MAX = 30_000
const OCTETS_AT_ONCE = 256 * 1024
const NAMES = ['populate_bounce_message', 'populate_bounce_message_with_headers']
const OURS = NAMES.map((name) => HMailItem.prototype[name])

function isReplaced(item) {
    return NAMES.some((name, at) => item[name] !== OURS[at])
}

// After the hook `bounce`: sends what a plugin wrote under the question's id, and resolves to how the answer says so. Whatever goes wrong
// here, the sender is told in our words.
async function tellOtherwise(host, item, answer, id) {
    if (answer.what !== 'default' || !isReplaced(item)) return undefined
    try {
        const octets = await inTime(write(host, item))
        for (let at = 0; at < octets.length; at += OCTETS_AT_ONCE) {
            host.wire.sendOctets(id, octets.subarray(at, at + OCTETS_AT_ONCE), at + OCTETS_AT_ONCE >= octets.length)
        }
        return 'all'
    } catch (error) {
        item.logerror(`populate_bounce_message failed, and the usual notification is sent: ${textOf(error)}`)
        return undefined
    }
}

async function write(host, item) {
    const from = host.makeAddress('<>')
    const to = host.makeAddress(item.todo.mail_from.format())
    const lines = await new Promise((resolve, reject) => {
        const told = (error, written) => (error ? reject(error) : resolve(written))
        // Others may be asynchronous; ours is not.
        Promise.resolve(item.populate_bounce_message(from, to, item.bounce_error, told)).catch(reject)
    })
    const text = Array.isArray(lines) ? lines.join('') : lines
    if (!text || text.length === 0) throw new Error('nothing was written')
    return host.core.get('outbound').written(from, to, text)
}

function inTime(promise) {
    let timer
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`no answer within ${NOTIFICATION_MS_MAX / 1000} s`)), NOTIFICATION_MS_MAX)
    })
    return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

module.exports = { NOTIFICATION_MS_MAX, isReplaced, tellOtherwise }

'use strict'
// What get_mx may answer: a string, an object, a HarakaMx, or an array of them.

const { HarakaMx } = require('haraka-net-utils')

class BadMx extends Error {}

// Plain objects for the engine, in the order given, as Haraka keeps it. Throws BadMx.
function normaliseMx(answer) {
    const list = Array.isArray(answer) ? answer : [answer]
    const hosts = list.filter((one) => one !== null && one !== undefined && one !== '').map(normaliseOne)
    if (hosts.length === 0) throw new BadMx('get_mx said OK without naming a host')
    return hosts
}

function normaliseOne(given) {
    if (typeof given !== 'string' && typeof given !== 'object') throw new BadMx(`not a host: ${String(given)}`)
    let mx
    try {
        mx = new HarakaMx(typeof given === 'string' ? given : { ...given })
        if (typeof given === 'string' && given.includes('://')) undoUrl(mx)
    } catch (error) {
        throw new BadMx(`not a host: ${String(given)}: ${error.message}`)
    }
    const host = {}
    const text = (name, value) => {
        if (value !== undefined && value !== null && value !== '') host[name] = String(value)
    }
    text('host', mx.exchange)
    text('path', mx.path)
    text('bind', mx.bind)
    // HarakaMx fills in the name of this machine where the plugin has none; the engine knows that itself.
    if (mx.bind_helo !== new HarakaMx('localhost').bind_helo) text('helo', mx.bind_helo)
    // Nobody logs in without a password.
    if (mx.auth_user && mx.auth_pass) {
        text('user', mx.auth_user)
        text('password', mx.auth_pass)
        text('auth', mx.auth_type)
    }
    if (!host.host && !host.path) throw new BadMx('a host without `exchange` and without `path`')
    if (mx.using_lmtp === true || mx.using_lmtp === 'true') host.lmtp = true
    // Values of ini files and URLs are texts, and `port: null` means the default.
    if (mx.port !== undefined && mx.port !== null && mx.port !== '') {
        host.port = Number(mx.port)
        if (!Number.isInteger(host.port) || host.port < 1 || host.port > 65535) throw new BadMx(`not a port: ${mx.port}`)
    }
    return host
}

// URLs have brackets around addresses of IPv6, and logins in percent encoding.
function undoUrl(mx) {
    mx.exchange = mx.exchange?.replace(/^\[(.*)\]$/, '$1')
    for (const name of ['auth_user', 'auth_pass']) {
        try {
            if (mx[name]) mx[name] = decodeURIComponent(mx[name])
        } catch {
            // A percent sign that stands for itself: people paste passwords.
        }
    }
}

module.exports = { normaliseMx, BadMx }

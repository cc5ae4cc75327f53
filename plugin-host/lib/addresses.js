'use strict'
// Addresses in both generations of Haraka's API: `address()` before 3.2, `address` since.

const fs = require('node:fs')
const path = require('node:path')

const FIELDS = new Set(['original', 'original_host', 'host', 'user', 'is_utf8', 'phrase', 'comment', 'group', 'opts', 'address', '_kind'])

// '3.1', '3.2' or 'both'. By default what the instance has installed says which one its plugins were written for.
function chooseGeneration(wanted, directory) {
    if (wanted && wanted !== 'auto') return wanted
    const version = installedVersion(directory, 'Haraka')
    if (version) {
        const [major, minor] = version.split('.').map(Number)
        return major < 3 || (major === 3 && minor < 2) ? '3.1' : '3.2'
    }
    if (installedVersion(directory, 'address-rfc2821') && !installedVersion(directory, '@haraka/email-address')) return '3.1'
    return '3.2'
}

function installedVersion(directory, name) {
    try {
        return JSON.parse(fs.readFileSync(path.join(directory, 'node_modules', name, 'package.json'))).version
    } catch {
        return undefined
    }
}

// Takes what the engine has accepted: an address that these parsers find too odd is taken apart without them.
function addressMaker(generation) {
    const { Address, asLegacy } = require(generation === '3.1' ? 'address-rfc2821' : '@haraka/email-address')
    const make = (original) => {
        try {
            return generation === '3.1' ? new Address(original) : new Address(original, { postel: true })
        } catch {
            return new Address(partsOf(original))
        }
    }
    return generation === 'both' ? (original) => asLegacy(make(original)) : make
}

// Takes what plugins hand in, and throws what is wrong with it.
function strictAddressMaker(generation) {
    const { Address, asLegacy } = require(generation === '3.1' ? 'address-rfc2821' : '@haraka/email-address')
    const make = (given) => {
        if (typeof given !== 'string' && typeof given?.original !== 'string') throw new Error('neither a string nor an address')
        return new Address(given)
    }
    return generation === 'both' ? (given) => asLegacy(make(given)) : make
}

function partsOf(original) {
    const text = original.replace(/^<|>$/g, '')
    const at = text.lastIndexOf('@')
    const host = at === -1 ? '' : text.slice(at + 1)
    return { original, user: at === -1 ? text : text.slice(0, at), original_host: host, host: host.toLowerCase() }
}

// What plugins have noted on an address: neither its own fields nor what the engine says about the last attempt.
function extrasOf(address) {
    const extras = {}
    for (const key of Object.keys(address)) {
        if (!FIELDS.has(key) && !key.startsWith('dsn_') && key !== 'reason' && typeof address[key] !== 'function') extras[key] = address[key]
    }
    return extras
}

module.exports = { chooseGeneration, addressMaker, strictAddressMaker, extrasOf }

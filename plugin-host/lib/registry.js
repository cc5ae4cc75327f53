'use strict'
// config/plugins, and who listens to which hook.

const fs = require('node:fs')
const path = require('node:path')
const config = require('haraka-config')
const { placeOf, sentenceOf } = require('./place')
const { Plugin, PluginNotFound } = require('./plugin')

const RENAMED = {
    'auth/auth_ldap': 'auth-ldap', backscatterer: 'dns-list', 'connect.asn': 'asn', 'connect.fcrdns': 'fcrdns',
    'connect.geoip': 'geoip', 'connect.p0f': 'p0f', 'connect.rdns_access': 'access', 'data.headers': 'headers',
    'data.nomsgid': 'headers', 'data.noreceived': 'headers', 'data.rfc5322_header_checks': 'headers',
    'data.uribl': 'uribl', dkim_sign: 'dkim', dkim_verify: 'dkim', dnsbl: 'dns-list', dnswl: 'dns-list',
    'log.syslog': 'syslog', 'mail_from.access': 'access', 'mail_from.blocklist': 'access',
    'mail_from.nobounces': 'bounce', max_unrecognized_commands: 'limit', rate_limit: 'limit',
    'rcpt_to.access': 'access', 'rcpt_to.blocklist': 'access', 'rcpt_to.ldap': 'rcpt-ldap',
    'rcpt_to.max_count': 'limit', 'rcpt_to.qmail_deliverable': 'qmail-deliverable', 'rdns.regexp': 'access',
    relay_acl: 'relay', relay_all: 'relay', relay_dest_domains: 'relay', relay_force_routing: 'relay',
}

function currentName(listed) {
    const name = listed.replace(/^haraka-plugin-/, '')
    return Object.hasOwn(RENAMED, name) ? RENAMED[name] : name
}

class Registry {
    constructor(runtime) {
        this.runtime = runtime
        this.plugins = []
        this.listeners = new Map() // hook -> [{ plugin, method, priority }] in run order
        this.failed = [] // [{ name, reason, file, line }]: not installed, or broken and to be ignored
        this.broken = [] // the same
        this.leftOut = new Set() // names of those that were left out
        this.order = [] // names, as the engine counts them: places of listeners among native plugins
        this.ignoreBroken = config.get('smtp.ini', { booleans: ['-main.ignore_bad_plugins'] }).main.ignore_bad_plugins
    }

    // In the order of the list, each name once; those that the engine does itself are left to it. What the engine counts on
    // runs until it says otherwise, whatever the list says now. With `only`, these instead of all that.
    async loadAll(native = [], only = undefined) {
        const seen = new Set(only ? [] : native)
        for (const listed of only || [...config.get('plugins', 'list'), ...this.order]) {
            const name = currentName(listed)
            if (seen.has(name)) continue
            seen.add(name)
            await this.load(name)
        }
    }

    // A plugin that does not load is left out, with all that it registered until then. One that is installed and broken, or
    // was installed, is the engine's business: mail that it would have decided about must not go without it.
    async load(name) {
        let installed = false
        try {
            this.find(name)
            installed = true
            this.runtime.loads(name)
            const plugin = this.compile(name)
            this.plugins.push(plugin)
            await plugin.start()
        } catch (error) {
            const absent = error instanceof PluginNotFound
            const trouble = absent ? {} : { sentence: sentenceOf(error), ...placeOf(error, [this.runtime.directory]) }
            // What the engine counts on was there: it is being replaced.
            const due = installed || this.order.includes(name)
            this.leaveOut(name, { reason: absent ? error.message : String(error.stack || error), ...trouble }, due)
        }
    }

    // `trouble`: reason, and perhaps sentence, file and line.
    leaveOut(name, trouble, due = true) {
        this.leftOut.add(name)
        this.plugins = this.plugins.filter((plugin) => plugin.name !== name)
        for (const [hook, list] of this.listeners) {
            this.listeners.set(hook, list.filter((listener) => listener.plugin.name !== name))
        }
        const list = due && !this.ignoreBroken ? this.broken : this.failed
        list.push({ name, ...trouble })
    }

    compile(listed) {
        const name = listed.replace(/^haraka-plugin-/, '')
        return new Plugin(name, this.find(name), this.runtime)
    }

    // The first hit wins, in Haraka's order.
    find(name) {
        const home = this.runtime.directory
        const core = path.join(home, 'node_modules', 'Haraka')
        const legacy = (base) => ({ file: path.join(base, 'plugins', `${name}.js`) })
        const packaged = (...parts) => ({ folder: path.join(...parts) })
        const places = [
            legacy(home), packaged(home, 'node_modules', `haraka-plugin-${name}`), packaged(home, '..', `haraka-plugin-${name}`),
            packaged(home, 'plugins', name), packaged(home, 'node_modules', name),
            legacy(core), packaged(core, 'node_modules', `haraka-plugin-${name}`), packaged(core, '..', `haraka-plugin-${name}`),
        ]
        const found = places.find((place) => fs.existsSync(place.file || path.join(place.folder, 'package.json')))
        if (!found) throw new PluginNotFound(`plugin \`${name}\` is neither in plugins/ nor in node_modules/`)
        return found
    }

    // Who was left out may still register, in a callback: nobody asks it.
    add(hook, { plugin, method, priority }) {
        if (this.leftOut.has(plugin.name)) return
        const listener = { plugin, method, priority, meter: this.runtime.metrics.meter(plugin.name, hook, method) }
        const list = this.listeners.get(hook) || []
        const place = list.findIndex((other) => other.priority > listener.priority)
        list.splice(place === -1 ? list.length : place, 0, listener)
        this.listeners.set(hook, list)
        this.runtime.listened()
    }

    // `span`: only those between two places, of which either may be null; null: none.
    of(hook, span) {
        const all = this.listeners.get(hook) || []
        if (span === undefined) return all
        if (span === null) return []
        const [after, before] = span
        return all.filter((listener) => {
            const place = this.placeOf(listener)
            return (!after || compare(after, place) < 0) && (!before || compare(place, before) < 0)
        })
    }

    // Priority first, then the place in the list.
    placeOf({ plugin, priority }) {
        const place = this.order.indexOf(plugin.name)
        return [priority, place === -1 ? this.order.length : place]
    }

    has(hook) {
        return this.of(hook).length > 0
    }

    // For people: who is loaded, from where, and who hears of what in which order.
    describe() {
        const plugins = this.plugins.map(({ name, plugin_path, timeout, hasPackageJson }) => ({ name, path: plugin_path, timeout, package: hasPackageJson }))
        const hooks = {}
        for (const hook of this.listeners.keys()) {
            if (!this.has(hook)) continue
            hooks[hook] = this.of(hook).map(({ plugin, method, priority }) => ({ plugin: plugin.name, method, priority }))
        }
        return { plugins, hooks }
    }

    // What the engine must allow for: the sum of the timeouts, in ms; null when some plugin may take for ever.
    patience(hook) {
        const timeouts = this.of(hook).map((listener) => listener.plugin.timeout)
        return timeouts.some((timeout) => timeout === 0) ? null : timeouts.reduce((sum, timeout) => sum + timeout * 1000, 0)
    }
}

function compare(one, other) {
    return one[0] - other[0] || one[1] - other[1]
}

module.exports = { Registry, currentName }

'use strict'
// One plugin: a legacy .js file or an npm package, with what plugins expect to find on `this`.

const fs = require('node:fs')
const path = require('node:path')
const vm = require('node:vm')
const { createRequire } = require('node:module')
const config = require('haraka-config')
const constants = require('haraka-constants')

const CONSTANTS = {}
constants.import(CONSTANTS)

const PRIORITY_MAX = 100

class PluginNotFound extends Error {}

class Plugin {
    // `home` is where it was found: { file } of a legacy plugin or { folder } of a package.
    constructor(name, home, runtime) {
        this.name = name
        this.base = {}
        this.hooks = {}
        this.timeout = timeoutOf(name)
        this.plugin_path = home.file || home.folder
        this.hasPackageJson = home.folder !== undefined
        const defaults = home.folder || path.resolve(path.dirname(home.file), '..')
        hide(this, 'is_plugin', true)
        hide(this, 'runtime', runtime)
        hide(this, 'config', withHeritage(config.module_config(defaults, runtime.directory)))
        runtime.logger.addTo(this, () => ({ origin: this.name }))
        runtime.metrics.own(name, this.plugin_path)
        try {
            if (home.folder !== undefined) Object.assign(this, require(home.folder))
            else this.compile(home.file)
        } catch (thrown) {
            throw errorOf(thrown)
        }
    }

    // As Haraka does it: strict mode, a realm of its own, `exports` is the plugin.
    compile(file) {
        const source = fs.readFileSync(file, 'utf8')
        const sandbox = {
            ...CONSTANTS,
            require: this.requireFrom(file), exports: this, module: { exports: this },
            __filename: file, __dirname: path.dirname(file), server: this.runtime.server,
            process, Buffer, Math, console, URL, URLSearchParams, AbortController, AbortSignal, TextEncoder, TextDecoder,
            fetch: globalThis.fetch, structuredClone, queueMicrotask,
            ...this.runtime.metrics.timersOf(this.name), clearTimeout, clearInterval, clearImmediate,
        }
        // On the same line, so that line numbers in errors are the file's.
        vm.runInNewContext(`'use strict';${source}`, sandbox, { filename: file })
        // Where authors wrote `module.exports = { … }`, as in any other module.
        if (sandbox.module.exports !== this) Object.assign(this, sandbox.module.exports)
    }

    // `require('./config')` is this plugin's view of the configuration, other names of Haraka's core are our modules.
    requireFrom(file) {
        const plain = createRequire(file)
        return (name) => {
            if (name === './config') return this.config
            const { core } = this.runtime
            if (name.startsWith('./') && core.has(name.slice(2))) return core.get(name.slice(2))
            if (!name.startsWith('.')) return plain(name)
            // Plugins of the Haraka package name its modules by their place.
            const ours = core.nameOf(plain.resolve(name))
            return ours === undefined ? plain(name) : core.get(ours)
        }
    }

    haraka_require(name) {
        return this.runtime.core.get(name)
    }

    // Priorities beyond the range are taken for its ends, as in Haraka.
    register_hook(hook, method, wanted) {
        const priority = Math.min(Math.max(parseInt(wanted, 10) || 0, -PRIORITY_MAX), PRIORITY_MAX)
        this.runtime.registry.add(hook, { plugin: this, method, priority })
        this.hooks[hook] = this.hooks[hook] || []
        this.hooks[hook].push(method)
    }

    // Everything that the parent has and this plugin has not; the parent registers its hooks as ours.
    inherits(parentName) {
        const parent = this.runtime.registry.compile(parentName)
        for (const member in parent) {
            if (!this[member]) this[member] = parent[member]
        }
        if (parent.register) parent.register.call(this)
        this.base[parentName] = parent
    }

    async start() {
        try {
            if (typeof this.register === 'function') await this.register()
        } catch (thrown) {
            throw errorOf(thrown)
        }
        for (const member in this) {
            const hook = /^hook_(\w+)$/.exec(member)
            if (hook && typeof this[member] === 'function') this.register_hook(hook[1], member)
        }
    }
}

// Nothing at all may be thrown, too.
function errorOf(thrown) {
    return thrown ?? new Error(`${thrown} was thrown`)
}

// Objects of ini files have had no prototype since haraka-config 1.7, so that what a client sends is found there only when the file has it.
// Older plugins ask them for hasOwnProperty. That they inherit, and nothing else.
const HERITAGE = Object.create(null, { hasOwnProperty: { value: Object.prototype.hasOwnProperty } })

function withHeritage(view) {
    const { get } = view
    hide(view, 'get', (...args) => endow(get.apply(view, args)))
    return view
}

function endow(value) {
    if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== null) return value
    Object.values(value).forEach(endow)
    return Object.setPrototypeOf(value, HERITAGE)
}

function hide(object, name, value) {
    Object.defineProperty(object, name, { value, enumerable: false, writable: true, configurable: true })
}

// Seconds; 0: none.
function timeoutOf(name) {
    const number = (value) => (value === null || value === undefined || isNaN(parseFloat(value)) ? undefined : parseFloat(value))
    return number(config.get(`${name}.timeout`)) ?? number(config.get('plugin_timeout')) ?? 30
}

module.exports = { Plugin, PluginNotFound, CONSTANTS }

'use strict'
// The envelope of an item's todo, which plugins may change: what the engine told, and what became of it.

// Recipients stand at places of the message's envelope. A place keeps its object while the item lives.
class Envelope {
    constructor(makeAddress, restored) {
        this.makeAddress = makeAddress
        this.restored = restored // what plugins noted on recipients before a restart, by place
        this.recipients = new Map() // place -> address
        this.told = new Map() // place -> { given, forms }; what the engine knows
        this.sender = undefined
        this.shown = [] // places
        this.back = [] // added once, and not kept
        this.begin()
    }

    begin() {
        this.seen = undefined
        this.removers = new Map() // place -> plugin
        this.adder = ''
    }

    showSender(todo, given) {
        if (this.sender?.given === given) return
        const address = this.makeAddress(given)
        this.sender = knownAs(given, address)
        // After a change of a plugin's the object is the plugin's.
        if (!todo.mail_from || differs(todo.mail_from, this.sender)) todo.mail_from = address
    }

    // Lets rcpt_to name those recipients of `given` that stand at `indexes` in it.
    show(todo, indexes, given) {
        this.begin()
        this.shown = indexes.map((index) => given.places[index])
        todo.rcpt_to = indexes.map((index) => this.recipient(given.rcpt_to[index], given.places[index]))
        this.seen = [...todo.rcpt_to]
    }

    recipient(given, place) {
        const kept = this.recipients.get(place)
        if (kept && this.told.get(place).given === given) return kept
        const address = this.makeAddress(given)
        this.told.set(place, knownAs(given, address))
        if (kept) return kept
        Object.assign(address, this.restored[place])
        this.recipients.set(place, address)
        return address
    }

    // Recipients that plugins added, and that the engine could not keep, are added again.
    giveBack(paths) {
        this.back.push(...paths.map((path) => this.makeAddress(path)))
    }

    takeBack(todo) {
        todo.rcpt_to.push(...this.back.splice(0))
    }

    // A plugin has answered: whom did it remove, and did it add somebody?
    heard(todo, plugin) {
        const now = todo.rcpt_to
        if (!Array.isArray(now) || !this.seen) return
        if (now.length === this.seen.length && now.every((one, at) => one === this.seen[at])) return
        const is = new Set(now)
        for (const place of this.shown) {
            if (is.has(this.recipients.get(place))) this.removers.delete(place)
            else if (!this.removers.has(place)) this.removers.set(place, plugin)
        }
        if (now.some((one) => !this.seen.includes(one))) this.adder = plugin
        this.seen = [...now]
    }

    // What the engine does not know yet, or undefined. Afterwards the todo has only what belongs to the item.
    edits(todo, warn) {
        const edits = {}
        const from = changedForm(todo.mail_from, this.sender)
        if (from === null) warn('mail_from is no address any more: it stays as it was')
        else if (from !== undefined) edits.mail_from = from
        const { kept, replaced, added, removed } = this.match(todo.rcpt_to, warn)
        const rcpt = []
        for (const [place, address] of [...kept, ...replaced]) {
            this.recipients.set(place, address)
            const to = changedForm(address, this.told.get(place))
            if (to !== undefined && to !== null) rcpt.push({ place, to })
        }
        if (rcpt.length > 0) edits.rcpt = rcpt
        if (removed.length > 0) edits.removed = removed.map((place) => ({ place, by: this.removers.get(place) || this.adder }))
        if (added.length > 0) Object.assign(edits, { added: added.map((one) => formsOf(one)[0]), by: this.adder })
        todo.rcpt_to = this.shown.filter((place) => !removed.includes(place)).map((place) => this.recipients.get(place))
        return Object.keys(edits).length > 0 ? edits : undefined
    }

    // Which of the addresses stands for which place: the same object, else the same address, else one new address for each
    // that is gone; the rest is added or removed.
    match(now, warn) {
        if (!Array.isArray(now)) {
            warn('rcpt_to is no array any more: it stays as it was')
            now = this.shown.map((place) => this.recipients.get(place))
        }
        const free = new Map(this.shown.map((place) => [this.recipients.get(place), place]))
        const places = new Set(this.shown)
        const kept = new Map()
        const strangers = []
        for (const one of now) {
            const place = free.get(one)
            if (place !== undefined && places.delete(place)) kept.set(place, one)
            else if (place === undefined) strangers.push(one)
        }
        const addresses = []
        for (const one of strangers) {
            const address = typeof one === 'string' ? this.makeAddress(one) : one
            if (formsOf(address)) addresses.push(address)
            else warn('something in rcpt_to is no address: it is left out')
        }
        const fresh = []
        for (const address of addresses) {
            const same = [...places].find((place) => formsOf(address)[0] === this.told.get(place).forms[0])
            if (same === undefined) {
                fresh.push(address)
            } else {
                places.delete(same)
                kept.set(same, address)
            }
        }
        const replaced = new Map()
        for (const place of [...places].slice(0, fresh.length)) {
            places.delete(place)
            replaced.set(place, fresh.shift())
        }
        return { kept, replaced, added: fresh, removed: [...places] }
    }
}

// What the engine told, and how it reads while nobody has changed it.
function knownAs(given, address) {
    return { given, forms: formsOf(address) }
}

// As SMTP has it: as written, and with the host that plugins set. Undefined for what is no address.
function formsOf(address) {
    if (!address || typeof address.format !== 'function') return undefined
    try {
        return [address.format(), address.format(true)].map(String)
    } catch {
        return undefined
    }
}

function formsOfText(text) {
    const path = text.startsWith('<') ? text : `<${text}>`
    return [path, path]
}

function differs(address, told) {
    return changedForm(address, told) !== undefined
}

// How the address reads now, when that is not what the engine knows; null: it is none.
function changedForm(address, told) {
    const forms = typeof address === 'string' ? formsOfText(address) : formsOf(address)
    if (!forms) return null
    const [plain, wire] = forms
    if (wire !== told.forms[1]) return wire
    return plain === told.forms[0] ? undefined : plain
}

module.exports = { Envelope }

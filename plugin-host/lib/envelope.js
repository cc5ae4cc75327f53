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
        this.round = 0 // counts who was shown
        this.left = undefined // whom the engine knows of those that were shown last
        this.late = undefined // { added, removed }: and what became of them since
        this.begin()
    }

    begin() {
        this.seen = undefined
        this.removers = new Map() // place -> plugin
        this.adder = ''
        this.parts = [] // items that are to have some of the recipients
    }

    // `part` is to have these recipients. False: the engine does not know all of them.
    divide(part, recipients) {
        const places = this.shown.filter((place) => recipients.includes(this.recipients.get(place)))
        if (places.length < recipients.length) return false
        this.parts.push({ part, places, recipients: places.map((place) => this.recipients.get(place)) })
        return true
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
        this.noteLate(todo)
        this.begin()
        this.round += 1
        this.shown = indexes.map((index) => given.places[index])
        todo.rcpt_to = indexes.map((index) => this.recipient(given.rcpt_to[index], given.places[index]))
        this.seen = [...todo.rcpt_to]
        this.left = [...todo.rcpt_to]
        this.catchUp(todo)
    }

    // Those whom the question is about, or of them those at `indexes`, whatever plugins made of rcpt_to.
    concerned(indexes) {
        const places = indexes ? indexes.map((index) => this.shown[index]) : this.shown
        return places.map((place) => this.recipients.get(place))
    }

    // What plugins did to rcpt_to since the engine was told: they may take longer than their answers.
    noteLate({ rcpt_to: now }) {
        if (!this.left || !Array.isArray(now)) return
        if (isSame(now, this.left)) return // nearly always
        const [is, was] = [new Set(now), new Set(this.left)]
        this.late ??= { added: new Set(), removed: new Set() }
        for (const one of is) if (!was.has(one)) this.late.added.add(one)
        for (const one of was) if (!is.has(one)) this.late.removed.add(one)
    }

    catchUp(todo) {
        if (!this.late) return
        const { added, removed } = this.late
        if (added.size === 0 && removed.size === 0) return
        todo.rcpt_to = [...todo.rcpt_to.filter((one) => !removed.has(one)), ...added]
        this.heard(todo, this.lastHeard)
    }

    // For hooks that change nothing, however they use the list of whom they hear of: gives what ends them.
    guard(todo) {
        const { round } = this
        const before = [...todo.rcpt_to]
        this.left = undefined // another question may come before that
        return () => {
            if (this.round !== round) return
            todo.rcpt_to = before
            this.left = [...before]
        }
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
        this.lastHeard = plugin
        const now = todo.rcpt_to
        if (!Array.isArray(now) || !this.seen) return
        if (isSame(now, this.seen)) return
        const is = new Set(now)
        for (const place of this.shown) {
            if (is.has(this.recipients.get(place))) this.removers.delete(place)
            else if (!this.removers.has(place)) this.removers.set(place, plugin)
        }
        const before = new Set(this.seen)
        if (now.some((one) => !before.has(one))) this.adder = plugin
        this.seen = [...now]
    }

    // What the engine does not know yet, or undefined. Afterwards the todo has only what belongs to the item.
    edits(todo, warn) {
        const edits = {}
        const from = changedForm(todo.mail_from, this.sender)
        if (from === null) warn('mail_from is no address any more: it stays as it was')
        else if (from !== undefined) edits.mail_from = from
        const parts = this.parts.map((part) => this.partEdits(part, warn))
        if (parts.length > 0) edits.parts = parts
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
        const gone = [...removed, ...this.parts.flatMap(({ places }) => places)]
        todo.rcpt_to = this.shown.filter((place) => !gone.includes(place)).map((place) => this.recipients.get(place))
        this.left = [...todo.rcpt_to]
        this.late = undefined
        return Object.keys(edits).length > 0 ? edits : undefined
    }

    // What is different for a part's recipients.
    partEdits({ part, places, recipients }, warn) {
        const edits = { places, by: this.removers.get(places[0]) || this.adder, image: part.bounded(part.image()) }
        const { mail_from: sender, rcpt_to: now } = part.todo
        const from = changedForm(sender, this.sender)
        if (from === null) warn('mail_from of a part is no address: it stays as it was')
        else if (from !== undefined) edits.mail_from = from
        const same = Array.isArray(now) && now.length === recipients.length && now.every((one) => formsOf(one))
        if (!same) warn('rcpt_to of a part names others: it stays as it was')
        // One by one: who stood at a place is still the one.
        const rcpt = places.map((place, at) => ({ place, to: changedForm((same ? now : recipients)[at], this.told.get(place)) }))
        edits.rcpt = rcpt.filter(({ to }) => to !== undefined && to !== null)
        return edits
    }

    // Which of the addresses stands for which place: the same object, else the same address, else one new address for each
    // that is gone; the rest is added or removed.
    match(now, warn) {
        if (!Array.isArray(now)) {
            warn('rcpt_to is no array any more: it stays as it was')
            now = this.shown.map((place) => this.recipients.get(place))
        }
        const parted = new Set(this.parts.flatMap((part) => part.places))
        const here = this.shown.filter((place) => !parted.has(place))
        const free = new Map(here.map((place) => [this.recipients.get(place), place]))
        const places = new Set(here)
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

function isSame(some, others) {
    return some.length === others.length && some.every((one, at) => one === others[at])
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

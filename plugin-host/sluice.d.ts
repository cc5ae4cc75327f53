// What plugins get from require('sluice'). docs/reference/plugin-module.md explains it with examples.
declare module 'sluice' {
    /** A request that the engine refused. */
    export class SluiceError extends Error {
        /** HTTP's: 404 nothing of that name, 413 no room, 422 something is wrong with `field`, 503 the engine starts or stops. */
        status: number
        field?: string
    }

    type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
    /** A pattern of policy.yaml, or several of which any may match: "mx.example.org", "*.example.org", "/regex/", "192.0.2.0/24". */
    type Pattern = string | string[]
    type Match = { [field: string]: Pattern }
    /** 5 (a second), "100/60" (in 60 seconds), or several. */
    type Rate = number | string | string[]

    export interface Limits {
        concurrency?: number
        rate?: Rate
        /** Seconds between the openings of two sessions. */
        connectinterval?: number | string
        messages_per_connection?: number
        bytes_per_second?: number
        tag?: string
        properties?: { [key: string]: Json }
    }
    export interface Condition {
        if: Match
        then: Limits
        /** Seconds; without it the condition stays until it is deleted. */
        ttl?: number
        /** Replaces the one with this id. */
        id?: string
        class?: 'ordinary' | 'warm_up' | 'back_off'
        policy?: string
        reason?: string
        /** The plugin, unless something else is said. */
        author?: string
        /** Only tell what it would match now. */
        dry_run?: boolean
    }
    /** Fields of policies with patterns, beside these. */
    export interface Suspension {
        ttl?: number
        id?: string
        percent?: number
        cron?: string[]
        new_connections_only?: boolean
        reason?: string
        author?: string
        dry_run?: boolean
        [field: string]: unknown
    }
    export interface Done {
        id?: string
        updated?: boolean
        matches?: { buckets?: number; waiting: number; at_least: boolean }
    }

    export const policy: {
        /** In force and durable when it resolves. */
        add(condition: Condition): Promise<Done>
        list(): Promise<Array<{ [key: string]: Json }>>
        delete(id: string, reason?: string): Promise<{ id: string }>
    }
    export const suspend: {
        add(suspension: Suspension): Promise<Done>
        list(): Promise<Array<{ [key: string]: Json }>>
        delete(id: string, reason?: string): Promise<{ id: string }>
    }

    /**
     * Whether there were fewer than `count` of these within the last `seconds`; if so, this one is counted.
     * With a count of 0: how many there were. Exact, over a sliding time, and shared by all plugins and processes.
     */
    export function rate(namespace: string, key: string | number, count: 0, seconds: number): Promise<number>
    export function rate(namespace: string, key: string | number, count: number, seconds: number): Promise<boolean>

    /** `fn`, called at most once within `ttl` seconds for the same arguments. What it throws or rejects is not kept. */
    export function cache<F extends (...args: any[]) => any>(ttl: number, fn: F): F

    /** Kept by the engine: survives a reload of plugins and the end of their process, not the end of the engine. */
    export const memory: {
        /** undefined: nothing is kept under this key. */
        get(key: string): Promise<Json | undefined>
        set(key: string, value: Json, options?: { ttl?: number }): Promise<void>
        /** The new value. A key that is not there counts from zero, and then `ttl` is for it. */
        incr(key: string, by?: number, options?: { ttl?: number }): Promise<number>
        /** Whether the value was as expected and is set now; `expected` undefined: there must be none. */
        compareAndSet(key: string, expected: Json | undefined, value: Json, options?: { ttl?: number }): Promise<boolean>
        delete(key: string): Promise<boolean>
        /** Seconds left; Infinity: it stays; undefined: nothing is kept under this key. */
        ttl(key: string): Promise<number | undefined>
        list(query?: { prefix?: string; after?: string; limit?: number }): Promise<{
            entries: Array<{ key: string; value: Json; ttl?: number }>
            total: number
            bytes: number
            after?: string
        }>
    }

    /** `where` is a filter of `sluice queue`: "domain=*.example.org age>2h". */
    export const queue: {
        count(where?: string): Promise<number>
        groups(by: string | string[], options?: { where?: string; limit?: number }): Promise<{ [key: string]: Json }>
        list(query?: { where?: string; domain?: string; sender?: string; recipient?: string; state?: string; limit?: number; cursor?: string }): Promise<{
            items: Array<{ [key: string]: Json }>
            cursor?: string
        }>
        stats(): Promise<{ [key: string]: Json }>
    }

    /** Why an item, message, domain or bucket waits, as `sluice explain` says it. */
    export function explain(what: string): Promise<Array<{ [key: string]: Json }>>

    /** Any other request of the control API. */
    export function request(method: 'GET' | 'POST', path: string, given?: { query?: { [key: string]: string | number }; body?: Json }): Promise<Json>
}

#include "control/routes.h"

namespace sluice::control {

std::string_view openapi_document() {
    return R"json({
  "openapi": "3.1.0",
  "info": {
    "title": "Sluice control API",
    "version": "1",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "description": "Served on DIR/run/control.sock and, where http.ini says so, on TCP. Errors are {\"error\": sentence, \"field\": name}."
  },
  "security": [{}, {"token": []}],
  "paths": {
    "/health": {"get": {"summary": "Whether new mail is accepted", "responses": {"200": {"description": "accepting"}, "503": {"description": "not accepting; why_not says why"}}}},
    "/metrics": {"get": {"summary": "Prometheus metrics", "responses": {"200": {"description": "text exposition format 0.0.4"}}}},
    "/v1/openapi.json": {"get": {"summary": "This document", "responses": {"200": {"description": "OpenAPI 3.1"}}}},
    "/v1/status": {"get": {"summary": "State of the engine", "responses": {"200": {"description": "version, queue, journal, listeners, warnings"}}}},
    "/v1/reload": {"post": {"summary": "Read the configuration again", "requestBody": {"content": {"application/json": {"schema": {"type": "object", "maxProperties": 0}}}}, "responses": {"200": {"description": "applied: whether the files were free of errors; problems found; needs_restart: settings that wait for one"}}}},
    "/v1/messages": {
      "post": {
        "summary": "Inject a message",
        "description": "202 means that the message is durable. As message/rfc822 the envelope comes in the query.",
        "parameters": [
          {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}, "description": "the same key within a day queues once"},
          {"name": "from", "in": "query", "schema": {"type": "string"}},
          {"name": "to", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
          {"name": "tenant", "in": "query", "schema": {"type": "string"}},
          {"name": "job", "in": "query", "schema": {"type": "string"}},
          {"name": "transport", "in": "query", "schema": {"type": "string"}, "description": "whose local addresses it goes out from"},
          {"name": "priority", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 7}},
          {"name": "lifetime", "in": "query", "schema": {"type": "string"}, "description": "given up after this: seconds, or 15m, 2h, 3d"},
          {"name": "notes", "in": "query", "schema": {"type": "string"}, "description": "a JSON object"}
        ],
        "requestBody": {
          "required": true,
          "content": {
            "message/rfc822": {"schema": {"type": "string"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/Injection"}}
          }
        },
        "responses": {
          "200": {"description": "the key was seen before; id of the earlier message"},
          "202": {"description": "queued; id of the message"},
          "400": {"description": "the request does not parse"},
          "413": {"description": "too large"},
          "422": {"description": "a field is wrong; error names it"},
          "503": {"description": "nothing is accepted now; try again later"}
        }
      }
    },
    "/v1/queue": {
      "get": {
        "summary": "Queued items",
        "parameters": [
          {"name": "domain", "in": "query", "schema": {"type": "string"}},
          {"name": "sender", "in": "query", "schema": {"type": "string"}, "description": "part of the reverse-path"},
          {"name": "recipient", "in": "query", "schema": {"type": "string"}, "description": "part of a forward-path"},
          {"name": "state", "in": "query", "schema": {"enum": ["scheduled", "ready", "sending", "held"]}},
          {"$ref": "#/components/parameters/where"},
          {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 100}},
          {"name": "cursor", "in": "query", "schema": {"type": "string"}, "description": "of the answer before: goes on after it"}
        ],
        "responses": {
          "200": {"description": "items, and a cursor while there may be more; each item that stays in the queue meanwhile comes once"},
          "422": {"description": "a filter is wrong, or the engine was started again since the cursor was given"}
        }
      }
    },
    "/v1/policy/conditions": {
      "get": {"summary": "Conditions that were added at run time", "responses": {"200": {"description": "conditions, at most 10000 of them, and their total"}}},
      "post": {
        "summary": "Override the limits of buckets",
        "description": "200 means that it is in force and survives restarts. One with the same id is replaced; without an id, one that says the same.",
        "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Condition"}}}},
        "responses": {"200": {"description": "id, and whether there was one before; with dry_run what it would match now"}, "422": {"description": "a field is wrong; error names it"}, "503": {"description": "in force, but the journal did not take it"}}
      }
    },
    "/v1/policy/conditions/delete": {"post": {"summary": "Remove a condition", "requestBody": {"$ref": "#/components/requestBodies/Removal"}, "responses": {"200": {"description": "its id"}, "404": {"description": "no such condition"}}}},
    "/v1/suspensions": {
      "get": {"summary": "Suspensions, those of suspend.yaml too", "responses": {"200": {"description": "suspensions, at most 10000 of them, and their total"}}},
      "post": {
        "summary": "Stop deliveries",
        "description": "200 means that it is in force and survives restarts. One with the same id is replaced; without an id, one that says the same.",
        "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Suspension"}}}},
        "responses": {"200": {"description": "id, and whether there was one before; with dry_run what it would match now"}, "422": {"description": "a field is wrong; error names it"}, "503": {"description": "in force, but the journal did not take it"}}
      }
    },
    "/v1/suspensions/delete": {"post": {"summary": "Remove a suspension that is not in suspend.yaml", "requestBody": {"$ref": "#/components/requestBodies/Removal"}, "responses": {"200": {"description": "its id"}, "404": {"description": "no such suspension"}, "422": {"description": "it stands in suspend.yaml"}}}},
    "/v1/suspensions/resume": {"post": {"summary": "End what start_suspended began", "requestBody": {"content": {"application/json": {"schema": {"type": "object", "properties": {"author": {"type": "string"}, "reason": {"type": "string"}}, "additionalProperties": false}}}}, "responses": {"200": {"description": "deliveries begin"}, "404": {"description": "the engine did not start suspended, or was resumed"}}}},
    "/v1/plugins": {"get": {"summary": "Plugins: what is loaded, hooks in run order, what they cost", "responses": {"200": {"description": "host (state, process, starts, ends, last_ends with the plugin that was at it, passed_over: hooks that are not asked for now), plugins, hooks with their listeners in run order, left_out; counts since the engine's start: calls, ms until the answer, busy_ms of own code, max_ms, timeouts, failures, host_ends, over_budget, passed_over; of native ones, calls, timeouts and failures only"}}}},
    "/v1/plugins/reload": {"post": {"summary": "Load all plugins again", "description": "Reads the configuration first, for what was installed. Returns when the new ones are in service, or do not load; then those in service stay.", "requestBody": {"content": {"application/json": {"schema": {"type": "object", "maxProperties": 0}}}}, "responses": {"200": {"description": "reloaded; plugins; problems with file and line; reason, when it is false"}}}},
    "/v1/memory": {
      "get": {
        "summary": "What plugins and others remember together",
        "description": "With key one entry, otherwise a list. Lost when the engine ends; at most 100000 entries and 64 MiB.",
        "parameters": [
          {"name": "key", "in": "query", "schema": {"type": "string"}},
          {"name": "prefix", "in": "query", "schema": {"type": "string"}, "description": "of the keys to list"},
          {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 100}},
          {"name": "after", "in": "query", "schema": {"type": "string"}, "description": "of the answer before: goes on after it"}
        ],
        "responses": {"200": {"description": "key, value, ttl; or entries, their total with rates, bytes, and after while there are more"}, "404": {"description": "nothing is kept under this key"}}
      },
      "post": {"summary": "Keep one entry, or many", "requestBody": {"required": true, "content": {"application/json": {"schema": {"oneOf": [{"$ref": "#/components/schemas/MemoryEntry"}, {"type": "object", "required": ["entries"], "properties": {"entries": {"type": "array", "items": {"$ref": "#/components/schemas/MemoryEntry"}}}, "additionalProperties": false}]}}}}, "responses": {"200": {"description": "how many were set"}, "413": {"description": "no room: the memory is full of entries without a time to live"}, "422": {"description": "a field is wrong; error names it"}}}
    },
    "/v1/memory/increment": {"post": {"summary": "Add to a whole number", "description": "A key that is not there counts from zero, and ttl is for it.", "requestBody": {"required": true, "content": {"application/json": {"schema": {"type": "object", "required": ["key"], "properties": {"key": {"type": "string", "minLength": 1, "maxLength": 512}, "by": {"type": "integer", "default": 1}, "ttl": {"type": "number", "exclusiveMinimum": 0, "description": "seconds; without it the entry stays"}}, "additionalProperties": false}}}}, "responses": {"200": {"description": "key and its new value"}, "413": {"description": "no room: the memory is full of entries without a time to live"}, "422": {"description": "a field is wrong; error names it"}}}},
    "/v1/memory/compare_and_set": {"post": {"summary": "Set a value if the present one is as expected", "description": "Without expected: if there is none.", "requestBody": {"required": true, "content": {"application/json": {"schema": {"type": "object", "required": ["key", "value"], "properties": {"key": {"type": "string", "minLength": 1, "maxLength": 512}, "expected": {}, "value": {}, "ttl": {"type": "number", "exclusiveMinimum": 0, "description": "seconds; without it the entry stays"}}, "additionalProperties": false}}}}, "responses": {"200": {"description": "done, and the value that is there now"}, "413": {"description": "no room: the memory is full of entries without a time to live"}, "422": {"description": "a field is wrong; error names it"}}}},
    "/v1/memory/delete": {"post": {"summary": "Forget an entry", "requestBody": {"required": true, "content": {"application/json": {"schema": {"type": "object", "required": ["key"], "properties": {"key": {"type": "string", "minLength": 1, "maxLength": 512}}, "additionalProperties": false}}}}, "responses": {"200": {"description": "whether there was one"}}}},
    "/v1/memory/rate": {"post": {"summary": "Count something over a sliding time, if there is room", "description": "A count of 0 only looks.", "requestBody": {"required": true, "content": {"application/json": {"schema": {"type": "object", "required": ["namespace", "key", "count", "seconds"], "properties": {"namespace": {"type": "string", "minLength": 1, "maxLength": 512}, "key": {"type": "string", "minLength": 1, "maxLength": 512}, "count": {"type": "integer", "minimum": 0, "maximum": 10000}, "seconds": {"type": "number", "exclusiveMinimum": 0}}, "additionalProperties": false}}}}, "responses": {"200": {"description": "allowed: there were fewer than count; used: how many there are now"}, "413": {"description": "no room: the memory is full of entries without a time to live"}, "422": {"description": "a field is wrong; error names it"}}}},
    "/v1/queue/stats": {"get": {"summary": "Counts in all and by domain", "responses": {"200": {"description": "counts"}}}},
    "/v1/queue/groups": {
      "get": {
        "summary": "Items counted in groups, with their ages and the times until their next try",
        "parameters": [
          {"name": "by", "in": "query", "schema": {"type": "string"}, "description": "up to four fields with commas between them; none: all together"},
          {"$ref": "#/components/parameters/where"},
          {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 1000}, "description": "groups, the largest first"}
        ],
        "responses": {
          "200": {"description": "total, groups with the filter that selects their items, age_intervals and next_intervals"},
          "422": {"description": "a field or the filter is wrong; error names it"}
        }
      }
    },
    "/v1/queue/jobs": {
      "get": {"summary": "Commands on many items, the newest first", "responses": {"200": {"description": "jobs"}}},
      "post": {
        "summary": "Begin a command on all items that a filter selects",
        "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Bulk"}}}},
        "responses": {
          "200": {"description": "dry_run: matched, how many items would be concerned"},
          "202": {"description": "the job; what it counts as done is durable"},
          "422": {"description": "a member or the filter is wrong; error names it"}
        }
      }
    },
    "/v1/queue/jobs/{job}": {"get": {"summary": "One job", "parameters": [{"$ref": "#/components/parameters/job"}], "responses": {"200": {"description": "the job"}, "404": {"description": "no such job"}}}},
    "/v1/queue/jobs/{job}/cancel": {"post": {"summary": "End a job; what is done stays done", "parameters": [{"$ref": "#/components/parameters/job"}], "requestBody": {"content": {"application/json": {"schema": {"type": "object", "maxProperties": 0}}}}, "responses": {"200": {"description": "the job"}, "404": {"description": "no such job is running"}}}},
    "/v1/queue/import": {
      "get": {"summary": "The import that is running, or the last one", "responses": {"200": {"description": "state, counts, and the first files that were left with the octet at which they stop making sense"}, "404": {"description": "nothing was imported since the start"}}},
      "post": {
        "summary": "Begin to take over the queue directory of a Haraka that has ended",
        "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Import"}}}},
        "responses": {
          "202": {"description": "the import; what it counts as imported is durable, and its file gone"},
          "422": {"description": "the directory cannot be imported, a Haraka works on it, or an import is running; error says which"}
        }
      }
    },
    "/v1/queue/import/cancel": {"post": {"summary": "End the import; what is imported stays so", "requestBody": {"content": {"application/json": {"schema": {"type": "object", "maxProperties": 0}}}}, "responses": {"200": {"description": "the import"}, "404": {"description": "none is running"}}}},
    "/v1/buckets": {
      "get": {
        "summary": "Live policy counters",
        "parameters": [
          {"name": "policy", "in": "query", "schema": {"type": "string"}},
          {"name": "part", "in": "query", "schema": {"type": "string"}, "description": "part of the bucket's name"},
          {"name": "waiting", "in": "query", "schema": {"type": "boolean"}, "description": "only where somebody waits"},
          {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 100}},
          {"name": "cursor", "in": "query", "schema": {"type": "string"}}
        ],
        "responses": {"200": {"description": "buckets with their values, limits and where these come from, fill, waiting lanes and what blocks; a cursor while there may be more"}}
      }
    },
    "/v1/explain": {
      "get": {
        "summary": "Why something stands where it does",
        "parameters": [{"name": "what", "in": "query", "required": true, "schema": {"type": "string"}, "description": "an item, a message, a domain, or the name of a bucket"}],
        "responses": {
          "200": {"description": "explanations: sentences, and what they say as values"},
          "404": {"description": "nothing of this name is queued"},
          "422": {"description": "not the name of a bucket; error says why"}
        }
      }
    },
    "/v1/queue/items/{id}": {"get": {"summary": "One item with its header section", "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}], "responses": {"200": {"description": "the item"}, "404": {"description": "no such item"}}}},
    "/v1/queue/flush": {"post": {"summary": "Make scheduled items due now", "requestBody": {"$ref": "#/components/requestBodies/Selection"}, "responses": {"200": {"description": "how many items"}}}},
    "/v1/queue/hold": {"post": {"summary": "Hold items", "requestBody": {"$ref": "#/components/requestBodies/Selection"}, "responses": {"200": {"description": "how many items"}}}},
    "/v1/queue/release": {"post": {"summary": "Release held items", "requestBody": {"$ref": "#/components/requestBodies/Selection"}, "responses": {"200": {"description": "how many items"}}}},
    "/v1/queue/delete": {"post": {"summary": "Remove items for good, without a notification", "requestBody": {"$ref": "#/components/requestBodies/Selection"}, "responses": {"200": {"description": "how many items"}}}}
  },
  "components": {
    "parameters": {
      "where": {"name": "where", "in": "query", "schema": {"type": "string"}, "description": "filter, as 'domain=*.example.org age>2h attempts>=3 reply~greylist'"},
      "job": {"name": "job", "in": "path", "required": true, "schema": {"type": "integer"}}
    },
    "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
    "requestBodies": {"Removal": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Removal"}}}}, "Selection": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Selection"}}}}},
    "schemas": {
      "MemoryEntry": {"type": "object", "required": ["key", "value"], "properties": {"key": {"type": "string", "minLength": 1, "maxLength": 512}, "value": {"description": "any JSON, at most 64 KiB"}, "ttl": {"type": "number", "exclusiveMinimum": 0, "description": "seconds; without it the entry stays"}}, "additionalProperties": false},
      "Selection": {
        "description": "exactly one of the three",
        "type": "object",
        "properties": {"item": {"type": "string"}, "domain": {"type": "string"}, "all": {"const": true}},
        "additionalProperties": false
      },
      "Bulk": {
        "description": "exactly one of where and all",
        "type": "object",
        "required": ["action"],
        "properties": {
          "action": {"enum": ["flush", "hold", "release", "delete", "bounce", "change"]},
          "where": {"type": "string", "description": "filter"},
          "all": {"const": true},
          "dry_run": {"type": "boolean", "description": "only count"},
          "reason": {"type": "string", "maxLength": 500, "description": "bounce: what senders are told"},
          "tenant": {"type": "string", "maxLength": 255, "description": "change: the new one"},
          "job": {"type": "string", "maxLength": 255, "description": "change: the new one"},
          "transport": {"type": "string", "maxLength": 255, "description": "change: the new one, and with it the local addresses"},
          "next_hop": {"type": "string", "maxLength": 255, "description": "change: where to, as a nexthop of relay_dest_domains.ini, without credentials; empty: as configured again"},
          "priority": {"type": "integer", "minimum": 0, "maximum": 7, "description": "change: the new one"}
        },
        "additionalProperties": false
      },
      "Import": {
        "type": "object",
        "required": ["directory"],
        "properties": {
          "directory": {"type": "string", "maxLength": 4096, "description": "full path of the queue directory"},
          "dry_run": {"type": "boolean", "description": "only read"},
          "force": {"type": "boolean", "description": "also when a Haraka seems to work on it"}
        },
        "additionalProperties": false
      },
      "Removal": {
        "type": "object",
        "required": ["id"],
        "properties": {"id": {"type": "string"}, "author": {"type": "string"}, "reason": {"type": "string"}},
        "additionalProperties": false
      },
      "Condition": {
        "description": "policy.md describes if and then; which policy is meant follows from the fields of if, or is said by policy or fields",
        "type": "object",
        "required": ["then"],
        "properties": {
          "id": {"type": "string", "maxLength": 128},
          "class": {"enum": ["ordinary", "warm_up", "back_off"]},
          "policy": {"type": "string"},
          "fields": {"type": "array", "items": {"type": "string"}},
          "if": {"type": "object"},
          "then": {"type": "object"},
          "ttl": {"type": "number", "description": "seconds; 0: no end"},
          "author": {"type": "string"},
          "reason": {"type": "string"},
          "dry_run": {"type": "boolean"}
        },
        "additionalProperties": false
      },
      "Suspension": {
        "description": "an entry of suspend.yaml: fields with their patterns, and these",
        "type": "object",
        "properties": {
          "id": {"type": "string", "maxLength": 128},
          "percent": {"type": "number", "minimum": 0.1, "maximum": 100},
          "cron": {"type": ["string", "array"]},
          "new_connections_only": {"type": "boolean"},
          "ttl": {"type": "number"},
          "tag": {"type": "string", "maxLength": 32},
          "properties": {"type": "object"},
          "author": {"type": "string"},
          "reason": {"type": "string"},
          "dry_run": {"type": "boolean"}
        }
      },
      "Injection": {
        "type": "object",
        "required": ["from", "to", "message"],
        "properties": {
          "from": {"type": "string", "description": "reverse-path; empty for the null one"},
          "to": {"type": "array", "items": {"type": "string"}, "minItems": 1},
          "message": {"type": "string", "description": "RFC 5322 text"},
          "tenant": {"type": "string", "maxLength": 255},
          "job": {"type": "string", "maxLength": 255},
          "transport": {"type": "string", "maxLength": 255, "description": "whose local addresses it goes out from"},
          "priority": {"type": "integer", "minimum": 0, "maximum": 7},
          "lifetime": {"description": "given up after this: seconds, or 15m, 2h, 3d", "oneOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]},
          "notes": {"type": "object", "description": "what policies may ask for as notes.KEY"}
        },
        "additionalProperties": false
      }
    }
  }
}
)json";
}

}  // namespace sluice::control

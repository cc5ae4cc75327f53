#include "policy/rules.h"

namespace sluice::policy {

// What the large receivers ask for when they say no, as operators found it to work. All of it is counted for each local address and
// receiver; whoever is in no group is a receiver of its own by its MX host.
std::string_view default_rules() {
    static constexpr std::string_view text = R"(
- name: google-unusual-rate
  if: { class: throttled, reply: 4xx, remotemx: '#google' }
  per: &receivers
    - localip
    - remotemx:
        google: ['*.google.com', '*.googlemail.com', '*.smtp.goog', google.com, googlemail.com]
        microsoft-consumer: '*.olc.protection.outlook.com'
        microsoft: ['*.protection.outlook.com', '*.mx.microsoft']
        yahoo: ['*.yahoodns.net', '*.yahoo.com', '*.aol.com']
        icloud: ['*.icloud.com', '*.apple.com']
        comcast: '*.comcast.net'
  at_least: 2/3600
  then: { rate: 10/60, tag: throttled }
  for: 1800
  recover: { steps: 3, every: 600 }
- name: google-content
  if: { text: our system has detected that this message, remotemx: '#google' }
  per: *receivers
  at_least: 5/3600
  then: { suspend: true, rate: 10/60, notify: Google dislikes the content of this mail }
  for: 3600
  recover: { steps: 3, every: 600 }
- name: yahoo-tss04
  if: { text: '/\b(TSS04|IPTS04)\b/', remotemx: '#yahoo' }
  per: *receivers
  at_least: 2/3600
  then: { suspend: true, rate: 10/60, concurrency: 2 }
  for: 7200
  recover: { steps: 3, every: 600 }
- name: yahoo-tss05
  if: { text: '/\b(TSS05|IPTS05)\b/', remotemx: '#yahoo' }
  per: *receivers
  at_least: 2/3600
  then: { suspend: true, rate: 10/60, concurrency: 2 }
  for: 14400
  recover: { steps: 3, every: 600 }
- name: yahoo-ts02
  if: { text: '/\bTS02\b/', remotemx: '#yahoo' }
  per: *receivers
  then: { rate: 1/60 }
  for: 1800
  recover: { steps: 3, every: 600 }
- name: yahoo-ts03
  if: { text: '/\bTS03\b/', remotemx: '#yahoo' }
  per: *receivers
  then: { rate: 10/60 }
  for: 1800
  recover: { steps: 3, every: 600 }
- name: microsoft-reputation
  if: { status: [4.7.650, 4.7.651], remotemx: ['#microsoft', '#microsoft-consumer'] }
  per: *receivers
  at_least: 2/3600
  then: { rate: 1/60, concurrency: 1, tag: throttled }
  for: 5400
  recover: { steps: 4, every: 600 }
- name: block-listed
  if: { class: blocked }
  per: *receivers
  at_least: 3/3600
  then: { treat: defer, suspend: true, concurrency: 1, rate: 10/60, notify: the address is on a block list }
  for: 7200
  recover: { steps: 3, every: 600 }
- name: too-many-connections
  if: { class: connections, reply: 4xx }
  per: *receivers
  then: { concurrency: 1 }
  for: 1800
  recover: { steps: 4, every: 300 }
- name: session-messages
  if: { class: session_messages, reply: 4xx }
  per: *receivers
  then: { messages_per_connection: 10 }
  for: 86400
- name: throttled
  if: { class: [throttled, busy], reply: 4xx, not: { any: [ { remotemx: ['*.google.com', '*.googlemail.com', '*.smtp.goog'] } ] } }
  per: *receivers
  at_least: 3/600
  then: { rate: 1/60, concurrency: 1, tag: throttled }
  for: 5400
  recover: { steps: 5, every: 600 }
- name: google-unreachable
  if: { class: connection, stage: [connect, banner, ehlo], remotemx: '#google' }
  per: *receivers
  in_a_row: 5
  then: { suspend: true, concurrency: 1 }
  for: 300
  recover: { steps: 4, every: 60 }
- name: comcast-unreachable
  if: { class: connection, stage: [connect, banner, ehlo], remotemx: '#comcast' }
  per: *receivers
  in_a_row: 24
  then: { suspend: true, concurrency: 1 }
  for: 300
  recover: { steps: 4, every: 60 }
- name: unreachable
  if: { class: connection, stage: [connect, banner, ehlo] }
  per: *receivers
  in_a_row: 100
  then: { suspend: true, concurrency: 1 }
  for: 600
  recover: { steps: 4, every: 60 }
)";
    return text;
}

}  // namespace sluice::policy

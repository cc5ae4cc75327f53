#include "event/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/text_serializer.h>

namespace sluice::event {

prometheus::Counter& Metrics::counter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add({});
}

Metrics::Metrics()
    : refused_family_(prometheus::BuildCounter()
                          .Name("sluice_refused_total")
                          .Help("Commands and messages refused to clients, by class of the reply")
                          .Register(registry_)),
      accepted_messages_(counter("sluice_accepted_messages_total", "Messages made durable and acknowledged")),
      accepted_recipients_(counter("sluice_accepted_recipients_total", "Recipients of accepted messages")),
      accepted_bytes_(counter("sluice_accepted_bytes_total", "Octets of accepted messages")),
      delivered_(counter("sluice_delivered_recipients_total", "Recipients that a peer took responsibility for")),
      deferred_(counter("sluice_deferred_recipients_total", "Temporary failures, each recipient each time")),
      bounced_(counter("sluice_bounced_recipients_total", "Recipients refused for good")),
      expired_(counter("sluice_expired_recipients_total", "Recipients given up after the queue lifetime")),
      removed_(counter("sluice_removed_recipients_total", "Recipients removed by an operator or plugin")),
      possible_duplicates_(counter(
          "sluice_possible_duplicates_total", "Attempts whose link was lost between the final dot and its reply")),
      dsns_(counter("sluice_dsn_messages_total", "Delivery status notifications queued")),
      refused_temporary_(refused_family_.Add({{"class", "4"}})),
      refused_permanent_(refused_family_.Add({{"class", "5"}})),
      delivery_seconds_(prometheus::BuildHistogram()
                            .Name("sluice_delivery_seconds")
                            .Help("From acceptance to delivery")
                            .Register(registry_)
                            .Add({}, prometheus::Histogram::BucketBoundaries{
                                         0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 1800, 3600, 21600, 86400})) {}

void Metrics::record(const Accepted& fact) {
    accepted_messages_.Increment();
    accepted_recipients_.Increment(static_cast<double>(fact.message.envelope.recipients.size()));
    accepted_bytes_.Increment(static_cast<double>(fact.message.size()));
    if (fact.message.origin == "dsn") dsns_.Increment();
}
void Metrics::record(const Refused& fact) {
    (fact.reply.starts_with('4') ? refused_temporary_ : refused_permanent_).Increment();
}
void Metrics::record(const Delivered& fact) {
    delivered_.Increment(static_cast<double>(fact.recipients.size()));
    delivery_seconds_.Observe(static_cast<double>(fact.since_arrival.count()) / 1000.0);
}
void Metrics::record(const Deferred& fact) { deferred_.Increment(static_cast<double>(fact.recipients.size())); }
void Metrics::record(const Bounced& fact) { bounced_.Increment(static_cast<double>(fact.recipients.size())); }
void Metrics::record(const Expired& fact) { expired_.Increment(static_cast<double>(fact.recipients.size())); }
void Metrics::record(const Removed& fact) { removed_.Increment(static_cast<double>(fact.recipients.size())); }
void Metrics::record(const PossibleDuplicate&) { possible_duplicates_.Increment(); }

void Metrics::set(std::string_view name, std::string_view help, double value, const Labels& labels) {
    prometheus::BuildGauge().Name(std::string(name)).Help(std::string(help)).Register(registry_).Add(labels).Set(value);
}

void Metrics::total(std::string_view name, std::string_view help, double value, const Labels& labels) {
    auto& counter = prometheus::BuildCounter().Name(std::string(name)).Help(std::string(help)).Register(registry_).Add(labels);
    if (value > counter.Value()) counter.Increment(value - counter.Value());
}

std::string Metrics::text() const { return prometheus::TextSerializer().Serialize(registry_.Collect()); }

}  // namespace sluice::event

// TLS towards hosts on loopback: what is demanded, what is tried, what is remembered.

#include <gmock/gmock.h>

#include <filesystem>

#include "delivery/courier_test_support.h"
#include "delivery/tls_policy.h"
#include "net/tls_test_support.h"

namespace sluice::delivery {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

const std::string offers = "S: 220 mx.test\nC: EHLO client.test\nS: 250-mx.test\nS: 250-PIPELINING\nS: 250 STARTTLS\n";
const std::string starts = "C: STARTTLS\nS: 220 go\n! tls\n";
const std::string inside = "C: EHLO client.test\nS: 250-mx.test\nS: 250 PIPELINING\n";

// Hosts with a certificate for mx1.test, signed by an authority that the settings may name.
class TlsDeliveryTest : public CourierTest {
protected:
    TlsDeliveryTest() {
        std::string name = (std::filesystem::temp_directory_path() / "sluice-delivery-XXXXXX").string();
        directory_ = ::mkdtemp(name.data());
        const net::Identity authority = net::make_identity("Test Authority", "", nullptr, true);
        const net::Identity host = net::make_identity("mx1.test", "DNS:mx1.test", &authority);
        net::append_certificate(directory_ + "/ca.pem", authority);
        net::append_certificate(directory_ + "/host.pem", host);
        net::write_key(directory_ + "/host.key", host);
        net::TlsOptions options;
        options.certificates = {directory_ + "/host.pem"};
        options.keys = {directory_ + "/host.key"};
        auto context = net::TlsContext::server(options);
        EXPECT_TRUE(context);
        server_tls_ = *context;
    }
    ~TlsDeliveryTest() override {
        finish();
        std::filesystem::remove_all(directory_);
    }
    void trust() { settings_.outbound_tls.ca_file = directory_ + "/ca.pem"; }
    void force(const char* what) { settings_.outbound_tls.force_tls_hosts = {what}; }

    std::string directory_;
};

TEST_F(TlsDeliveryTest, TL_1_OpportunisticTlsNeedsNoTrust) {
    host({offers + starts + inside + mail_ok + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_NE(log_.starting_with("delivered").find("tls=Y"), std::string::npos);
}

TEST(TlsPolicy, NewSettingsKeepTheContextsUnlessTlsChanged) {
    config::Settings settings;
    TlsPolicy policy;
    ASSERT_TRUE(policy.configure(settings));
    const auto first = policy.context_for(TlsMode::opportunistic);
    settings.outbound.concurrency_max = 7;
    ASSERT_TRUE(policy.configure(settings));
    EXPECT_EQ(policy.context_for(TlsMode::opportunistic), first);
    settings.outbound_tls.files_crc = 1;
    ASSERT_TRUE(policy.configure(settings));
    EXPECT_NE(policy.context_for(TlsMode::opportunistic), first);
}

TEST_F(TlsDeliveryTest, TLS_I5_WhatWasOfferedInClearIsForgotten) {
    const std::string boasts = "S: 220 mx.test\nC: EHLO client.test\nS: 250-mx.test\nS: 250-PIPELINING\nS: 250-SIZE 10\n"
                               "S: 250-SMTPUTF8\nS: 250-CHUNKING\nS: 250 STARTTLS\n";
    const std::string modest = "C: EHLO client.test\nS: 250 mx.test\nC: MAIL FROM:<a@sender.test>\n~ quiet\nS: 250 ok\n"
                               "C: RCPT TO:<b@example.test>\nS: 250 ok\nC: DATA\nS: 354 go\n! body\nS: 250 ok\n";
    host({boasts + starts + modest + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
}

TEST_F(TlsDeliveryTest, LI_6_LimitsAreThoseSaidInsideTls) {
    const std::string strict = "S: 220 mx.test\nC: EHLO client.test\nS: 250-mx.test\nS: 250-LIMITS RCPTMAX=2 MAILMAX=1\n"
                               "S: 250 STARTTLS\n";
    const std::string inside_strict = "C: EHLO client.test\nS: 250-mx.test\nS: 250-PIPELINING\nS: 250 LIMITS RCPTMAX=1\n";
    Host& peer = host({strict + starts + inside_strict + mail_ok + mail_ok + bye});
    courier().carry_out(deliver(make_message({"x@example.test", "y@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_EQ(peer.connections(), 1U) << "one recipient a transaction, but more than one transaction a connection";
}

TEST_F(TlsDeliveryTest, TL_3_BrokenHandshakeGoesOnInClearOnTheSameHostAndIsRemembered) {
    Host& peer = host(
        {offers + "C: STARTTLS\nS: 220 go\n! close\n", offers + mail_ok + bye, offers + mail_ok + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    const auto end = ended();
    EXPECT_EQ(end.verdict, Ended::done);
    EXPECT_THAT(end.unhealthy, IsEmpty());
    EXPECT_EQ(peer.connections(), 2U);
    courier().carry_out(queue::Close{1, 0});
    closed();

    courier().carry_out(deliver(make_message({"b@example.test"}), 2));
    ended(2);
    EXPECT_EQ(peer.connections(), 3U) << "no second handshake is tried";
    courier().carry_out(queue::Close{2, 0});
    closed(2);
}

TEST_F(TlsDeliveryTest, TL_3_BrokenTlsIsForgottenAfterItsTime) {
    settings_.outbound_tls.broken_tls_expiry = std::chrono::milliseconds(1'000);
    host({offers + "C: STARTTLS\nS: 220 go\n! close\n", offers + mail_ok + bye,
          offers + starts + inside + mail_ok + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    ended();
    courier().carry_out(queue::Close{1, 0});
    closed();
    clock_.advance(Duration(2'000));
    courier().carry_out(deliver(make_message({"b@example.test"}), 2));
    EXPECT_EQ(ended(2).verdict, Ended::done);
}

TEST_F(TlsDeliveryTest, TL_4_MandatoryTlsVerifiesTheName) {
    trust();
    force("mx1.test");
    host({offers + starts + inside + mail_ok + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
}

TEST_F(TlsDeliveryTest, MandatoryTlsByDomainRefusesAnUnknownAuthority) {
    force("example.test");
    host({offers + starts});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::deferred);
    EXPECT_THAT(events_.facts, ElementsAre(StartsWith("deferred tls 4.7.5")));
    hosts_.back()->forgive();
}

TEST_F(TlsDeliveryTest, MandatoryTlsByNetworkRefusesAnotherName) {
    trust();
    force("127.0.0.0/8");
    host({}, false);                 // mx1.test is down
    host({offers + starts});         // mx2.test shows the certificate of mx1.test
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::deferred);
    hosts_.back()->forgive();
}

TEST_F(TlsDeliveryTest, NoTlsHostsGetMailInClear) {
    settings_.outbound_tls.no_tls_hosts = {"127.0.0.1"};
    host({offers + mail_ok + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_NE(log_.starting_with("delivered").find("tls=N"), std::string::npos);
}

TEST_F(TlsDeliveryTest, AU_10_PasswordGoesOnlyToAVerifiedPeer) {
    transport_.auth_user = "joe";
    transport_.auth_password = "secret";
    const std::string with_auth = "C: EHLO client.test\nS: 250-mx.test\nS: 250 AUTH PLAIN\n";
    host({offers + starts + with_auth + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::deferred);
    EXPECT_THAT(events_.facts, ElementsAre(StartsWith("deferred auth 4.7.0")));
    closed();
}

TEST_F(TlsDeliveryTest, AU_11_VerifiedPeerGetsThePassword) {
    trust();
    transport_.auth_user = "joe";
    transport_.auth_password = "secret";
    const std::string with_auth = "C: EHLO client.test\nS: 250-mx.test\nS: 250-PIPELINING\nS: 250 AUTH PLAIN\n"
                                  "C: AUTH PLAIN AGpvZQBzZWNyZXQ=\nS: 235 ok\n";
    host({offers + starts + with_auth + mail_ok + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_NE(log_.starting_with("delivered").find("auth=Y"), std::string::npos);
}

TEST_F(TlsDeliveryTest, ReloadedTlsSettingsApplyToTheNextSessionAndABadOneIsRefused) {
    host({offers + mail_ok + bye});
    settings_.outbound.enable_tls = false;
    courier();
    config::Settings bad = settings_;
    bad.outbound.enable_tls = true;
    bad.outbound_tls.certificate = bad.outbound_tls.key = directory_ + "/missing.pem";
    EXPECT_FALSE(courier().configure(std::make_shared<config::Settings>(bad)));
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    courier().carry_out(queue::Close{1, 0});
    closed();
    bad.outbound_tls.certificate = bad.outbound_tls.key = "";
    Host& second = host({offers + starts + inside + mail_ok + bye});
    EXPECT_TRUE(courier().configure(std::make_shared<config::Settings>(bad)));
    queue::Deliver order = deliver(make_message({"b@example.test"}), 2);
    order.candidates = {1};
    courier().carry_out(std::move(order));
    EXPECT_EQ(ended(2).verdict, Ended::done);
    EXPECT_EQ(second.connections(), 1U);
}

// ---- as delivery.yaml demands --------------------------------------------------------------------------------

policy::DeliverySettingsPtr tls(policy::TlsDemand demand) {
    policy::DeliverySettings settings;
    settings.tls = demand;
    return std::make_shared<const policy::DeliverySettings>(std::move(settings));
}

class TlsDemanded : public TlsDeliveryTest {
protected:
    void send(policy::TlsDemand demand, queue::SessionId session = 1) {
        queue::Deliver order = deliver(make_message({"b@example.test"}), session);
        order.how = tls(demand);
        courier().carry_out(std::move(order));
    }
};

TEST_F(TlsDemanded, RequireDefersWithoutStartTls) {
    settings_.outbound.enable_tls = false;
    host({hello + bye});
    send(policy::TlsDemand::require);
    EXPECT_EQ(ended().verdict, Ended::deferred);
    EXPECT_THAT(events_.facts, ElementsAre(StartsWith("deferred starttls 4.7.5")));
    closed();
}

TEST_F(TlsDemanded, RequireTakesAnyCertificateButNoBrokenHandshake) {
    host({offers + starts + inside + mail_ok + bye, offers + "C: STARTTLS\nS: 220 go\n! close\n"});
    send(policy::TlsDemand::require);
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_NE(log_.starting_with("delivered").find("tls=Y"), std::string::npos);
    courier().carry_out(queue::Close{1, 0});
    closed();
    send(policy::TlsDemand::require, 2);
    EXPECT_EQ(ended(2).verdict, Ended::deferred) << "never in clear";
}

TEST_F(TlsDemanded, RequireVerifyWantsTheAuthority) {
    host({offers + starts});
    hosts_.back()->forgive();
    send(policy::TlsDemand::require_verify);
    EXPECT_EQ(ended().verdict, Ended::deferred);
    EXPECT_THAT(events_.facts, ElementsAre(StartsWith("deferred tls 4.7.5")));
}

TEST_F(TlsDemanded, OptionalVerifyGoesInClearOnlyWhereTlsIsNotOffered) {
    host({offers + starts, hello + mail_ok + bye});
    hosts_.back()->forgive();
    send(policy::TlsDemand::optional_verify);
    EXPECT_EQ(ended().verdict, Ended::deferred) << "the certificate is of nobody we know";
    closed();
    send(policy::TlsDemand::optional_verify, 2);
    EXPECT_EQ(ended(2).verdict, Ended::done);
}

TEST_F(TlsDemanded, OptionalNeedsNoTrustWhateverTheSettingsWant) {
    settings_.outbound_tls.verify_peer = true;
    settings_.outbound_tls.no_tls_hosts = {"127.0.0.1"};
    host({offers + starts + inside + mail_ok + bye});
    send(policy::TlsDemand::optional);
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_NE(log_.starting_with("delivered").find("tls=Y"), std::string::npos);
}

TEST_F(TlsDemanded, DisabledIsInClearUnlessTheHostIsForced) {
    host({offers + mail_ok + bye, offers + starts});
    hosts_.back()->forgive();
    send(policy::TlsDemand::disabled);
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_NE(log_.starting_with("delivered").find("tls=N"), std::string::npos);
    courier().carry_out(queue::Close{1, 0});
    closed();
    config::Settings forced = settings_;
    forced.outbound_tls.force_tls_hosts = {"mx1.test"};
    ASSERT_TRUE(courier().configure(std::make_shared<config::Settings>(forced)));
    send(policy::TlsDemand::disabled, 2);
    EXPECT_EQ(ended(2).verdict, Ended::deferred) << "what forces TLS beats everything";
}

}  // namespace
}  // namespace sluice::delivery

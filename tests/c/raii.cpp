/* The C++ header: handles that free themselves, exceptions both ways, what views and moves are worth. */
#include <sipws.hpp>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                       \
            std::exit(1);                                                                                              \
        }                                                                                                              \
    } while (0)

#define RUN(test)                                                                                                      \
    do {                                                                                                               \
        std::fprintf(stderr, "-- %s\n", #test);                                                                        \
        test();                                                                                                        \
    } while (0)

namespace {

using namespace std::chrono_literals;

/* What callbacks do, as the test waits for it. */
class signals {
public:
    template <typename Change> void change(Change &&change)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        change();
        changed_.notify_all();
    }
    template <typename Condition> void wait(Condition &&condition)
    {
        std::unique_lock<std::mutex> lock(mutex_);
        CHECK(changed_.wait_for(lock, 60s, condition));
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
};

sipws::config local(const char *scheme = "ws")
{
    sipws::config config;
    config.set("listen[0].url", std::string(scheme) + "://127.0.0.1:0/")
        .set("sip.listen", "[\"tcp://127.0.0.1:0\"]")
        .set("runtime.threads", "2")
        .set("client.verify", "false");
    return config;
}

std::string request(const char *method)
{
    return std::string(method) + " sip:echo@example.com SIP/2.0\r\n"
                                 "Via: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
                                 "Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=1\r\n"
                                 "To: <sip:echo@example.com>\r\nCall-ID: 1\r\nCSeq: 1 " +
           method + "\r\nContent-Length: 0\r\n\r\n";
}

void a_failed_call_throws_its_status_and_words()
{
    sipws::config config = local();
    try {
        config.set("limits.brust", "1");
        CHECK(false);
    } catch (const sipws::error &error) {
        CHECK(error.status() == SIPWS_E_CONFIG);
        CHECK(std::string(error.what()).find("did you mean burst?") != std::string::npos);
    }
    try {
        sipws::config::from_toml("[");
        CHECK(false);
    } catch (const sipws::error &error) {
        CHECK(error.status() == SIPWS_E_CONFIG);
    }
    sipws::server server(config);
    try {
        server.stats();
        CHECK(false);
    } catch (const sipws::error &error) {
        CHECK(error.status() == SIPWS_E_STATE);
    }
}

void messages_pass_and_what_is_attached_is_destroyed()
{
    signals done;
    int echoes = 0, closed = 0;
    auto counted = std::make_shared<int>(7);
    sipws::message_handler echo;
    echo.message = [](sipws::server_view server, sipws::flow_id flow, const sipws::message &message) {
        CHECK(message.method() == "OPTIONS" && message.status() == 0 && message.body().empty());
        CHECK(message.request_uri() == "sip:echo@example.com");
        CHECK(message.header("i") == "1" && !message.header("Subject"));
        CHECK(message.header_at(0)->first == "Via" && !message.header_at(99));
        server.send(flow, message.bytes());
    };
    sipws::message_handler counting;
    counting.opened = [&](sipws::server_view server, sipws::flow_id flow) { server.attach(flow, counted); };
    counting.message = [&](sipws::server_view server, sipws::flow_id flow, const sipws::message &) {
        CHECK(**server.attached<std::shared_ptr<int>>(flow) == 7);
        done.change([&] { ++echoes; });
    };
    counting.closed = [&](sipws::server_view, sipws::flow_id, std::uint32_t reason) {
        CHECK(reason == SIPWS_CLOSED_HERE);
        done.change([&] { ++closed; });
    };
    sipws::server far(local().set_message_handler(echo));
    sipws::server near(local().set_message_handler(counting));
    far.start();
    near.start();
    const sipws::flow_id flow = near.connect(far.local_addresses().at(0));
    while (near.try_send(flow, request("OPTIONS")) != SIPWS_OK) {
        std::this_thread::sleep_for(1ms);
    }
    done.wait([&] { return echoes == 1; });
    CHECK(near.info(flow)->outgoing == 1 && !near.info(12345));
    CHECK(near.stats().connections_outgoing == 1);
    CHECK(near.metrics().find("sipws_") != std::string::npos);
    CHECK(counted.use_count() == 2);
    near.close(flow, 1000, "bye");
    done.wait([&] { return closed == 1; });
    near.stop();
    CHECK(counted.use_count() == 1);
    CHECK(near.try_send(flow, "x") == SIPWS_E_GONE);
    sipws::server moved = std::move(near);
    moved.stop();
}

void what_callbacks_throw_stays_with_us()
{
    signals done;
    int failed = 0, opened = 0;
    const std::uint64_t before = sipws::swallowed();
    sipws::message_handler throwing;
    throwing.opened = [](sipws::server_view, sipws::flow_id) { throw std::runtime_error("opened"); };
    throwing.message = [](sipws::server_view, sipws::flow_id, const sipws::message &) { throw 7; };
    throwing.closed = [](sipws::server_view, sipws::flow_id, std::uint32_t) { throw std::bad_alloc(); };
    bool refuses = true;
    sipws::config config = local();
    config.set_message_handler(throwing);
    config.set_events([](sipws::server_view, const sipws::event &) { throw std::logic_error("events"); });
    config.set_policy([&](const sipws::question &question, sipws::decision decision) {
        if (question.is_handshake() && refuses) {
            throw std::runtime_error("policy");
        }
        CHECK(decision.accept());
    });
    sipws::message_handler ours;
    ours.opened = [&](sipws::server_view, sipws::flow_id) { done.change([&] { ++opened; }); };
    ours.connect_failed = [&](sipws::server_view, sipws::flow_id, std::uint32_t error, std::uint32_t http,
                              std::string_view text) {
        CHECK(error == SIPWS_CONNECT_REFUSED && http == 503 && !text.empty());
        done.change([&] { ++failed; });
    };
    sipws::server far(config);
    sipws::server near(local().set_message_handler(ours));
    far.start();
    near.start();
    near.connect(far.local_addresses().at(0));
    done.wait([&] { return failed == 1; });
    refuses = false;
    const sipws::flow_id flow = near.connect(far.local_addresses().at(0));
    done.wait([&] { return opened == 1; });
    near.send(flow, request("OPTIONS"));
    while (far.stats().messages_from_flows == 0) {
        std::this_thread::sleep_for(1ms);
    }
    near.close(flow);
    far.stop();
    /* policy, opened, message, closed, and the events of opened and closed */
    CHECK(sipws::swallowed() == before + 6);
}

void a_decision_can_be_kept_and_made_later()
{
    signals done;
    std::optional<sipws::decision> kept;
    int failed = 0, opened = 0;
    sipws::config config = local();
    config.set_policy([&](const sipws::question &question, sipws::decision decision) {
        CHECK(question.is_handshake() && !question.is_request() && !question.secure() && question.flow() == 0);
        CHECK(question.target() == "/" && question.header("x-who") == "alice" && !question.peer().empty());
        done.change([&] { kept.emplace(std::move(decision)); });
    });
    sipws::message_handler ours;
    ours.opened = [&](sipws::server_view, sipws::flow_id) { done.change([&] { ++opened; }); };
    ours.connect_failed = [&](sipws::server_view, sipws::flow_id, std::uint32_t, std::uint32_t http, std::string_view) {
        CHECK(http == 429 || http == 503);
        done.change([&] { ++failed; });
    };
    sipws::server far(config);
    sipws::server near(local().set_message_handler(ours));
    far.start();
    near.start();
    sipws::server_view::connect_options how;
    how.headers.emplace_back("X-Who", "alice");
    how.deadline = 60s;
    const auto ask = [&] {
        near.connect(far.local_addresses().at(0), how);
        done.wait([&] { return kept.has_value(); });
    };
    ask();
    CHECK(kept->refuse(429, "slow down"));
    kept.reset();
    done.wait([&] { return failed == 1; });
    ask();
    kept.reset(); /* undecided */
    done.wait([&] { return failed == 2; });
    ask();
    CHECK(kept->accept());
    kept.reset();
    done.wait([&] { return opened == 1; });
    /* The far side is a bridge: its events are queued. */
    const std::optional<sipws::event> event = far.next_event(60s);
    CHECK(event && event->kind() == SIPWS_EVENT_OPENED && event->flow() != 0 && !event->text().empty());
    CHECK(!far.next_event() && far.event_fd() >= 0 && far.reload(config).empty());
}

void a_log_is_let_go_of_with_its_last_server()
{
    auto lines = std::make_shared<std::atomic<int>>(0);
    sipws::set_log([lines](int, std::string_view, std::string_view text) {
        if (!text.empty()) {
            ++*lines;
        }
        throw 1;
    }, SIPWS_LOG_TRACE);
    {
        sipws::server server(local("wss"));
        server.start();
        sipws::set_log(nullptr);
        CHECK(lines.use_count() == 2);
    }
    CHECK(lines.use_count() == 1);
}

} // namespace

int main()
{
    RUN(a_failed_call_throws_its_status_and_words);
    RUN(messages_pass_and_what_is_attached_is_destroyed);
    RUN(what_callbacks_throw_stays_with_us);
    RUN(a_decision_can_be_kept_and_made_later);
    RUN(a_log_is_let_go_of_with_its_last_server);
    return 0;
}

/*
 * sipws for C++17: handles that free themselves, exceptions out of our calls, std::function for callbacks. Header only,
 * over the C ABI of sipws.h, whose comments hold here, too: threads, what is allowed in callbacks, what is copied.
 *
 * - A call that fails throws sipws::error, with the status and the words. try_* return the status instead.
 * - Handles are move-only. Destroying a server stops it; inside a callback that happens later.
 * - What a callback throws is caught, counted (sipws::swallowed()) and dropped: it never reaches the library. A policy
 *   that throws refuses with 503.
 * - std::string_view that a message, a question or an event gives is valid as long as that is.
 */
#ifndef SIPWS_HPP
#define SIPWS_HPP

#include <sipws.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sipws {

/// A call that failed.
class error : public std::runtime_error {
public:
    error(sipws_status status, const std::string &words) : std::runtime_error(words), status_(status) {}
    /// One of SIPWS_E_*.
    sipws_status status() const noexcept { return status_; }

private:
    sipws_status status_;
};

/// What this thread's last failed call has to say.
inline std::string last_error()
{
    std::string words(sipws_last_error(nullptr, 0), '\0');
    sipws_last_error(words.data(), words.size() + 1);
    return words;
}

/// Throws what the C ABI's call has to say, unless it went well.
inline void check(sipws_status status)
{
    if (status != SIPWS_OK) {
        throw error(status, std::string(sipws_status_str(status)) + ": " + last_error());
    }
}

using flow_id = sipws_flow_id;

namespace detail {

inline std::atomic<std::uint64_t> &swallowed_count() noexcept
{
    static std::atomic<std::uint64_t> count{0};
    return count;
}

/// Runs a callback; nothing that it throws goes further.
template <typename Body> void guarded(Body &&body) noexcept
{
    try {
        body();
    } catch (...) {
        swallowed_count().fetch_add(1, std::memory_order_relaxed);
    }
}

inline std::string_view view(sipws_bytes bytes) noexcept
{
    return bytes.len == 0 ? std::string_view() : std::string_view(bytes.data, bytes.len);
}

inline sipws_bytes lend(std::string_view text) noexcept
{
    return sipws_bytes{text.data(), text.size()};
}

/// The drop function of what was given away as a std::unique_ptr<T>.
template <typename T> void drop(void *user_data)
{
    delete static_cast<T *>(user_data);
}

/// Gives `value` to the library, which lets go of it by `drop<T>`; where that fails, it is freed here.
template <typename T, typename Set> void give(T value, Set &&set)
{
    auto owned = std::make_unique<T>(std::move(value));
    check(set(static_cast<void *>(owned.get()), &drop<T>));
    owned.release();
}

/// As std::unique_ptr, for a handle and its free function.
template <typename T, void (*Free)(T *)> struct freed {
    void operator()(T *handle) const noexcept { Free(handle); }
};
template <typename T, void (*Free)(T *)> using handle = std::unique_ptr<T, freed<T, Free>>;

} // namespace detail

/// How many exceptions have left callbacks, and were dropped.
inline std::uint64_t swallowed() noexcept
{
    return detail::swallowed_count().load(std::memory_order_relaxed);
}

/// A SIP message, inside the callback that it was lent to.
class message {
public:
    explicit message(const sipws_message *lent) noexcept : lent_(lent) {}
    std::string_view bytes() const noexcept { return detail::view(sipws_message_bytes(lent_)); }
    /// A request's method; of a response, the method in CSeq.
    std::string_view method() const noexcept { return detail::view(sipws_message_method(lent_)); }
    /// A response's; 0: it is a request.
    unsigned status() const noexcept { return sipws_message_status(lent_); }
    std::string_view request_uri() const noexcept { return detail::view(sipws_message_request_uri(lent_)); }
    std::string_view body() const noexcept { return detail::view(sipws_message_body(lent_)); }
    /// The index-th header field of that name, long or compact.
    std::optional<std::string_view> header(const char *name, std::size_t index = 0) const
    {
        sipws_bytes value{nullptr, 0};
        return found(sipws_message_header(lent_, name, index, &value), value);
    }
    /// Name and value of the index-th header field.
    std::optional<std::pair<std::string_view, std::string_view>> header_at(std::size_t index) const
    {
        sipws_bytes name{nullptr, 0}, value{nullptr, 0};
        const sipws_status status = sipws_message_header_at(lent_, index, &name, &value);
        if (status == SIPWS_E_NOT_FOUND) {
            return std::nullopt;
        }
        check(status);
        return std::make_pair(detail::view(name), detail::view(value));
    }
    const sipws_message *get() const noexcept { return lent_; }

private:
    friend class question;
    static std::optional<std::string_view> found(sipws_status status, sipws_bytes value)
    {
        if (status == SIPWS_E_NOT_FOUND) {
            return std::nullopt;
        }
        check(status);
        return detail::view(value);
    }
    const sipws_message *lent_;
};

/// What a policy is asked about, inside its callback.
class question {
public:
    explicit question(const sipws_policy_request *lent) noexcept : lent_(lent) {}
    bool is_handshake() const noexcept { return sipws_policy_request_kind(lent_) == SIPWS_POLICY_HANDSHAKE; }
    bool is_request() const noexcept { return sipws_policy_request_kind(lent_) == SIPWS_POLICY_REQUEST; }
    flow_id flow() const noexcept { return sipws_policy_request_flow(lent_); }
    std::string_view peer() const noexcept { return detail::view(sipws_policy_request_peer(lent_)); }
    bool secure() const noexcept { return sipws_policy_request_secure(lent_) != 0; }
    /// A handshake's path and query.
    std::string_view target() const noexcept { return detail::view(sipws_policy_request_target(lent_)); }
    std::optional<std::string_view> header(const char *name, std::size_t index = 0) const
    {
        sipws_bytes value{nullptr, 0};
        return sipws::message::found(sipws_policy_request_header(lent_, name, index, &value), value);
    }
    /// The SIP request; only where is_request().
    sipws::message message() const noexcept { return sipws::message(sipws_policy_request_message(lent_)); }

private:
    const sipws_policy_request *lent_;
};

/// A decision that the host owes. Decide once, from any thread; destroyed undecided, it refuses with 503.
class decision {
public:
    explicit decision(sipws_decision *owed) noexcept : owed_(owed) {}
    decision(decision &&other) noexcept : owed_(std::exchange(other.owed_, nullptr)) {}
    decision &operator=(decision &&other) noexcept
    {
        if (this != &other) {
            abandon();
            owed_ = std::exchange(other.owed_, nullptr);
        }
        return *this;
    }
    decision(const decision &) = delete;
    decision &operator=(const decision &) = delete;
    ~decision() { abandon(); }

    /// False: too late.
    bool accept() { return complete(SIPWS_ACCEPT, 0, nullptr); }
    /// HTTP 400 to 599 for a handshake, SIP 300 to 699 for a request. False: too late.
    bool refuse(std::uint16_t status = 403, const std::string &reason = {})
    {
        return complete(SIPWS_REFUSE, status, reason.empty() ? nullptr : reason.c_str());
    }

private:
    bool complete(std::int32_t verdict, std::uint16_t status, const char *reason)
    {
        const sipws_status done = sipws_decision_complete(std::exchange(owed_, nullptr), verdict, status, reason);
        if (done == SIPWS_E_LATE) {
            return false;
        }
        check(done);
        return true;
    }
    void abandon() noexcept
    {
        if (owed_ != nullptr) {
            sipws_decision_complete(std::exchange(owed_, nullptr), SIPWS_REFUSE, 503, nullptr);
        }
    }
    sipws_decision *owed_;
};

/// Something that happened: fetched from a queue, or lent to a callback.
class event {
public:
    explicit event(const sipws_event *lent) noexcept : event_(lent) {}
    static event owning(sipws_event *fetched)
    {
        event e(fetched);
        e.owned_.reset(fetched);
        return e;
    }
    /// One of SIPWS_EVENT_*.
    std::uint32_t kind() const noexcept { return sipws_event_kind(event_); }
    flow_id flow() const noexcept { return sipws_event_flow(event_); }
    std::uint32_t code() const noexcept { return sipws_event_code(event_); }
    std::uint64_t number() const noexcept { return sipws_event_number(event_); }
    std::string_view text() const noexcept { return detail::view(sipws_event_text(event_)); }

private:
    const sipws_event *event_;
    detail::handle<sipws_event, sipws_event_free> owned_;
};

/// A server as its callbacks see it: a view, valid while they run.
class server_view {
public:
    explicit server_view(sipws_server *server) noexcept : server_(server) {}

    void send(flow_id flow, std::string_view message) { check(try_send(flow, message)); }
    /// SIPWS_E_AGAIN: the outbox is full; SIPWS_E_GONE: the flow is closed.
    sipws_status try_send(flow_id flow, std::string_view message) noexcept
    {
        return sipws_flow_send(server_, flow, detail::lend(message));
    }
    void close(flow_id flow, std::uint16_t code = 1000, const std::string &reason = {})
    {
        check(sipws_flow_close(server_, flow, code, reason.c_str()));
    }
    /// Nothing where the flow is closed.
    std::optional<sipws_flow_info_t> info(flow_id flow) const
    {
        sipws_flow_info_t info = SIPWS_FLOW_INFO_INIT;
        const sipws_status status = sipws_flow_info(server_, flow, &info);
        if (status == SIPWS_E_GONE) {
            return std::nullopt;
        }
        check(status);
        return info;
    }
    /// Attaches a value to a flow, which is destroyed after the flow's last callback.
    template <typename T> void attach(flow_id flow, T value)
    {
        detail::give<T>(std::move(value), [&](void *user_data, sipws_drop_fn drop) {
            return sipws_flow_set_user_data(server_, flow, user_data, drop);
        });
    }
    /// What was attached, which must have been a T; nullptr where nothing was, or the flow is closed.
    template <typename T> T *attached(flow_id flow) const noexcept
    {
        void *user_data = nullptr;
        return sipws_flow_user_data(server_, flow, &user_data) == SIPWS_OK ? static_cast<T *>(user_data) : nullptr;
    }

    /// How to connect; what is left out is as the configuration says.
    struct connect_options {
        std::chrono::milliseconds deadline{0};
        std::string origin{};
        std::vector<std::pair<std::string, std::string>> headers{};
        std::string ca_file{};
        std::string server_name{};
        /// One of SIPWS_VERIFY_*.
        std::uint32_t verify = SIPWS_VERIFY_DEFAULT;
    };
    flow_id connect(const std::string &url) { return connect(url, connect_options()); }
    flow_id connect(const std::string &url, const connect_options &how)
    {
        const auto text = [](const std::string &s) { return s.empty() ? nullptr : s.c_str(); };
        std::vector<sipws_header> headers;
        headers.reserve(how.headers.size());
        for (const auto &[name, value] : how.headers) {
            headers.push_back(sipws_header{name.c_str(), value.c_str()});
        }
        sipws_connect_options options = SIPWS_CONNECT_OPTIONS_INIT;
        options.deadline_ms = static_cast<std::uint32_t>(how.deadline.count());
        options.origin = text(how.origin);
        options.headers = headers.data();
        options.header_count = headers.size();
        options.ca_file = text(how.ca_file);
        options.server_name = text(how.server_name);
        options.verify = how.verify;
        flow_id flow = 0;
        check(sipws_connect(server_, url.c_str(), &options, &flow));
        return flow;
    }

    /// Where it listens, with the real ports: WebSocket listeners first.
    std::vector<std::string> local_addresses() const
    {
        std::vector<std::string> urls;
        for (;;) {
            std::size_t length = 0;
            sipws_status status = sipws_server_local_addr(server_, urls.size(), nullptr, 0, &length);
            if (status == SIPWS_E_NOT_FOUND) {
                return urls;
            }
            if (status != SIPWS_E_BUFFER) {
                check(status);
            }
            std::string url(length, '\0');
            check(sipws_server_local_addr(server_, urls.size(), url.data(), length + 1, nullptr));
            urls.push_back(std::move(url));
        }
    }
    sipws_stats stats() const
    {
        sipws_stats stats = SIPWS_STATS_INIT;
        check(sipws_server_stats(server_, &stats));
        return stats;
    }
    /// For Prometheus.
    std::string metrics() const
    {
        sipws_str text{nullptr, 0};
        check(sipws_server_metrics(server_, &text));
        const std::unique_ptr<sipws_str, detail::freed<sipws_str, sipws_str_free>> freed(&text);
        return std::string(text.data, text.len);
    }
    bool ready() const noexcept { return sipws_server_ready(server_) == SIPWS_OK; }
    sipws_server *get() const noexcept { return server_; }

protected:
    sipws_server *server_;
};

/// Where a host's messages go: see config::set_message_handler. Each function may be empty.
struct message_handler {
    std::function<void(server_view, flow_id)> opened{};
    std::function<void(server_view, flow_id, const message &)> message{};
    std::function<void(server_view, flow_id, std::uint32_t reason)> closed{};
    std::function<void(server_view, flow_id, std::uint32_t error, std::uint32_t http_status, std::string_view text)>
        connect_failed{};
};

/// Decides who may connect and what may pass: now, or later with the decision moved away.
using policy = std::function<void(const question &, decision)>;

/// Gets the events.
using event_handler = std::function<void(server_view, const event &)>;

/// Gets the lines of the log.
using log_handler = std::function<void(int level, std::string_view target, std::string_view text)>;

namespace detail {

inline void opened(void *user_data, sipws_server *server, flow_id flow)
{
    guarded([&] {
        if (const auto &f = static_cast<message_handler *>(user_data)->opened) {
            f(server_view(server), flow);
        }
    });
}

inline void arrived(void *user_data, sipws_server *server, flow_id flow, const sipws_message *lent)
{
    guarded([&] {
        if (const auto &f = static_cast<message_handler *>(user_data)->message) {
            f(server_view(server), flow, sipws::message(lent));
        }
    });
}

inline void closed(void *user_data, sipws_server *server, flow_id flow, std::uint32_t reason)
{
    guarded([&] {
        if (const auto &f = static_cast<message_handler *>(user_data)->closed) {
            f(server_view(server), flow, reason);
        }
    });
}

inline void connect_failed(void *user_data, sipws_server *server, flow_id flow, std::uint32_t error,
                           std::uint32_t http_status, const char *text)
{
    guarded([&] {
        if (const auto &f = static_cast<message_handler *>(user_data)->connect_failed) {
            f(server_view(server), flow, error, http_status, text);
        }
    });
}

inline std::int32_t decide(void *user_data, const sipws_policy_request *what, sipws_decision *owed)
{
    // Undecided, whether it throws or not, it refuses with 503.
    guarded([&] { (*static_cast<policy *>(user_data))(question(what), decision(owed)); });
    return SIPWS_DEFER;
}

inline void happened(void *user_data, sipws_server *server, const sipws_event *lent)
{
    guarded([&] { (*static_cast<event_handler *>(user_data))(server_view(server), event(lent)); });
}

inline void logged(void *user_data, std::int32_t level, const char *target, const char *text)
{
    guarded([&] { (*static_cast<log_handler *>(user_data))(level, target, text); });
}

} // namespace detail

/// Has the log of servers that are started from here on go to `log`; nullptr: nowhere.
inline void set_log(log_handler log, int level = SIPWS_LOG_INFO)
{
    if (!log) {
        check(sipws_set_log_callback(nullptr, nullptr, nullptr, SIPWS_LOG_OFF));
        return;
    }
    detail::give<log_handler>(std::move(log), [&](void *user_data, sipws_drop_fn drop) {
        return sipws_set_log_callback(detail::logged, user_data, drop, level);
    });
}

/// A configuration: one owner, one thread at a time.
class config {
public:
    config() : config(nullptr) { check(sipws_config_new(replace())); }
    static config from_toml(std::string_view text)
    {
        config made(nullptr);
        check(sipws_config_from_toml(text.data(), text.size(), made.replace()));
        return made;
    }
    static config from_file(const std::string &path)
    {
        config made(nullptr);
        check(sipws_config_from_file(path.c_str(), made.replace()));
        return made;
    }

    config &set(const std::string &key, const std::string &value)
    {
        check(sipws_config_set(get(), key.c_str(), value.c_str()));
        return *this;
    }
    config &set_tls_pem(std::string_view chain, std::string_view key)
    {
        check(sipws_config_set_tls_pem(get(), detail::lend(chain), detail::lend(key)));
        return *this;
    }
    config &set_policy(policy decide)
    {
        detail::give<policy>(std::move(decide), [&](void *user_data, sipws_drop_fn drop) {
            return sipws_config_set_policy(get(), detail::decide, user_data, drop);
        });
        return *this;
    }
    config &set_message_handler(message_handler handler)
    {
        sipws_message_handler functions = SIPWS_MESSAGE_HANDLER_INIT;
        functions.opened = detail::opened;
        functions.message = detail::arrived;
        functions.closed = detail::closed;
        functions.connect_failed = detail::connect_failed;
        detail::give<message_handler>(std::move(handler), [&](void *user_data, sipws_drop_fn drop) {
            return sipws_config_set_message_handler(get(), &functions, user_data, drop);
        });
        return *this;
    }
    config &set_events(event_handler events)
    {
        detail::give<event_handler>(std::move(events), [&](void *user_data, sipws_drop_fn drop) {
            return sipws_config_set_events(get(), detail::happened, user_data, drop);
        });
        return *this;
    }
    config &set_event_queue(std::uint32_t capacity)
    {
        check(sipws_config_set_event_queue(get(), capacity));
        return *this;
    }
    void validate() const { check(sipws_config_validate(get())); }
    sipws_config *get() const noexcept { return handle_.get(); }

private:
    explicit config(std::nullptr_t) noexcept {}
    /// A place for the handle that a call makes.
    struct place {
        config &owner;
        sipws_config *made = nullptr;
        operator sipws_config **() noexcept { return &made; }
        ~place() { owner.handle_.reset(made); }
    };
    place replace() noexcept { return place{*this}; }
    detail::handle<sipws_config, sipws_config_free> handle_;
};

/// A server.
class server : public server_view {
public:
    explicit server(const config &made_of) : server_view(nullptr)
    {
        check(sipws_server_new(made_of.get(), &server_));
        handle_.reset(server_);
    }
    server(server &&other) noexcept
        : server_view(std::exchange(other.server_, nullptr)), handle_(std::move(other.handle_))
    {
    }
    server &operator=(server &&other) noexcept
    {
        handle_ = std::move(other.handle_);
        server_ = std::exchange(other.server_, nullptr);
        return *this;
    }

    void start() { check(sipws_server_start(server_)); }
    /// After this no callback runs.
    void stop(std::chrono::milliseconds grace = std::chrono::milliseconds(0))
    {
        check(sipws_server_stop(server_, static_cast<std::uint32_t>(grace.count())));
    }
    /// Returns the keys that differ and need a restart, a line each.
    std::string reload(const config &to)
    {
        sipws_str text{nullptr, 0};
        check(sipws_server_reload(server_, to.get(), &text));
        const std::unique_ptr<sipws_str, detail::freed<sipws_str, sipws_str_free>> freed(&text);
        return std::string(text.data, text.len);
    }
    /// The oldest event; nothing where none comes in time.
    std::optional<event> next_event(std::chrono::milliseconds wait = std::chrono::milliseconds(0))
    {
        sipws_event *fetched = nullptr;
        const sipws_status status =
            sipws_server_next_event(server_, static_cast<std::uint32_t>(wait.count()), &fetched);
        if (status == SIPWS_E_TIMEOUT) {
            return std::nullopt;
        }
        check(status);
        return event::owning(fetched);
    }
    /// For poll().
    int event_fd() const
    {
        const int fd = sipws_server_event_fd(server_);
        check(fd < 0 ? fd : SIPWS_OK);
        return fd;
    }

private:
    detail::handle<sipws_server, sipws_server_free> handle_;
};

} // namespace sipws

#endif

// The whole bridge (WebSocket clients on one side, SIP servers on the other) inside a C++ program.
//
//     cpp-bridge [--token SECRET] CONFIG.toml
//     cpp-bridge [--token SECRET] LISTEN-URL SIP-LISTEN UPSTREAM-URI
//     cpp-bridge ws://127.0.0.1:8080/ tcp://127.0.0.1:5062 "sip:127.0.0.1:5060;transport=tcp"
//
// The program decides who may connect (with --token: whoever has ?token=SECRET in their URL) and what may pass (no
// MESSAGE to sip:nobody@...), says what happens, re-reads its configuration on SIGHUP, and ends on SIGINT or SIGTERM.

#include <sipws.hpp>

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

struct arguments {
    std::string token;
    std::vector<std::string> words;
};

arguments read(int argc, char **argv)
{
    arguments read{{}, {argv + 1, argv + argc}};
    if (read.words.size() >= 2 && read.words[0] == "--token") {
        read.token = read.words[1];
        read.words.erase(read.words.begin(), read.words.begin() + 2);
    }
    if (read.words.size() != 1 && read.words.size() != 3) {
        throw std::invalid_argument("usage: cpp-bridge [--token SECRET] CONFIG.toml\n"
                                    "       cpp-bridge [--token SECRET] LISTEN-URL SIP-LISTEN UPSTREAM-URI");
    }
    return read;
}

/// Signals as bytes that poll() waits for: blocked before the library starts its threads, which inherit that.
class signals {
public:
    signals()
    {
        sigset_t set;
        sigemptyset(&set);
        for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
            sigaddset(&set, number);
        }
        sigprocmask(SIG_BLOCK, &set, nullptr);
        fd_ = signalfd(-1, &set, SFD_CLOEXEC);
        if (fd_ < 0) {
            throw std::system_error(errno, std::generic_category(), "signalfd");
        }
    }
    ~signals() { close(fd_); }
    signals(const signals &) = delete;
    signals &operator=(const signals &) = delete;

    int fd() const { return fd_; }
    int next() const
    {
        signalfd_siginfo info{};
        return ::read(fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info) ? static_cast<int>(info.ssi_signo) : 0;
    }

private:
    int fd_ = -1;
};

bool has_token(std::string_view target, const std::string &token)
{
    const std::string wanted = "token=" + token;
    const auto query = target.find('?');
    if (query == std::string_view::npos) {
        return false;
    }
    for (auto rest = target.substr(query + 1);;) {
        const auto end = rest.find('&');
        if (rest.substr(0, end) == wanted) {
            return true;
        }
        if (end == std::string_view::npos) {
            return false;
        }
        rest.remove_prefix(end + 1);
    }
}

/// Runs on the library's threads, several at once. A host that has to ask a database would move `owed` away to whoever
/// asks it, and return.
void decide(const std::string &token, const sipws::question &asked, sipws::decision owed)
{
    if (asked.is_handshake()) {
        if (token.empty() || has_token(asked.target(), token)) {
            owed.accept();
        } else {
            owed.refuse(401, "token needed");
        }
        return;
    }
    const auto request = asked.message();
    if (request.method() == "MESSAGE" && request.request_uri().substr(0, 11) == "sip:nobody@") {
        owed.refuse(403, "Nobody Listens");
        return;
    }
    owed.accept();
}

/// A line in one piece: the log's lines come from other threads in between.
void say(const std::string &line)
{
    std::cout << line + "\n" << std::flush;
}

void print(const sipws::event &event)
{
    const auto flow = "flow " + std::to_string(event.flow());
    const std::string text(event.text());
    switch (event.kind()) {
    case SIPWS_EVENT_OPENED:
        say(flow + " opened by " + text);
        break;
    case SIPWS_EVENT_CLOSED:
        say(flow + " closed: " + text);
        break;
    case SIPWS_EVENT_REGISTERED:
        say("registered " + text + " for " + std::to_string(event.number()) + " s");
        break;
    case SIPWS_EVENT_UNREGISTERED:
        say("unregistered " + text);
        break;
    case SIPWS_EVENT_UPSTREAM_UP:
        say("reached " + text);
        break;
    case SIPWS_EVENT_UPSTREAM_DOWN:
        say("lost " + text);
        break;
    default: // a newer library's
        break;
    }
}

sipws::config configure(const arguments &given)
{
    auto config = given.words.size() == 1 ? sipws::config::from_file(given.words[0]) : sipws::config();
    if (given.words.size() == 3) {
        config.set("listen[0].url", given.words[0]);
        config.set("sip.listen", "[\"" + given.words[1] + "\"]");
        config.set("upstream[0].uri", given.words[2]);
    }
    config.set_policy([token = given.token](const sipws::question &asked, sipws::decision owed) {
        decide(token, asked, std::move(owed));
    });
    return config;
}

void run(const arguments &given)
{
    const signals signals;
    sipws::set_log([](int, std::string_view, std::string_view text) { std::cerr << std::string(text) + "\n"; }, SIPWS_LOG_WARN);
    sipws::server server(configure(given));
    server.start();
    for (const auto &url : server.local_addresses()) {
        say("listening on " + url);
    }
    say("ready");
    pollfd fds[] = {{signals.fd(), POLLIN, 0}, {server.event_fd(), POLLIN, 0}};
    while (poll(fds, 2, -1) >= 0) {
        while (const auto event = server.next_event()) {
            print(*event);
        }
        if ((fds[0].revents & POLLIN) == 0) {
            continue;
        }
        if (signals.next() != SIGHUP) {
            break;
        }
        try {
            const auto later = server.reload(configure(given));
            say(later.empty() ? "reloaded" : "reloaded; after a restart: " + later);
        } catch (const sipws::error &wrong) {
            say(std::string("not reloaded: ") + wrong.what());
        }
    }
    server.stop(std::chrono::seconds(2));
    const auto thrown = sipws::swallowed();
    say(thrown == 0 ? "stopped" : "stopped; exceptions in callbacks: " + std::to_string(thrown));
}

} // namespace

int main(int argc, char **argv)
{
    try {
        run(read(argc, argv));
        return 0;
    } catch (const std::exception &problem) {
        std::cerr << "cpp-bridge: " << problem.what() << '\n';
        return 1;
    }
}

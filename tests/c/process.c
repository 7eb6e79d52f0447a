/* What the library does to the process that it is in: forks, SIGPIPE with its default, threads, signal handlers. */
#include "pair.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned threads_of_this_process(void)
{
    DIR *tasks = opendir("/proc/self/task");
    unsigned count = 0;
    struct dirent *entry;
    CHECK(tasks);
    while ((entry = readdir(tasks))) {
        count += entry->d_name[0] != '.';
    }
    closedir(tasks);
    return count;
}

static void no_thread_is_started_before_the_start_and_no_signal_handler_ever(void)
{
    sipws_config *config = config_of("wss");
    sipws_server *server = NULL;
    const unsigned before = threads_of_this_process();
    struct sigaction handlers[64], action;
    int number;
    for (number = 1; number < SIGRTMIN; number++) {
        sigaction(number, NULL, &handlers[number]);
    }
    OK(sipws_config_validate(config));
    OK(sipws_server_new(config, &server));
    CHECK(sipws_server_event_fd(server) >= 0);
    CHECK(threads_of_this_process() == before);
    OK(sipws_server_start(server));
    CHECK(threads_of_this_process() == before + 2);
    for (number = 1; number < SIGRTMIN; number++) {
        if (sigaction(number, NULL, &action) == 0) {
            CHECK(action.sa_handler == handlers[number].sa_handler);
        }
    }
    OK(sipws_server_stop(server, 0));
    EVENTUALLY(threads_of_this_process() == before);
    sipws_server_free(server);
    sipws_config_free(config);
}

/* Runs `body` in a child, which must end well. */
static void in_a_child(void (*body)(side *), side *s)
{
    int status = 0;
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(DEADLINE_MS / 1000);
        body(s);
        /* Ends as another program: what is left of the parent's server in here is no leak, for valgrind to count. */
        execlp("true", "true", (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void use_the_parents_server(side *s)
{
    sipws_stats stats = SIPWS_STATS_INIT;
    sipws_flow_info_t info = SIPWS_FLOW_INFO_INIT;
    sipws_str text = {NULL, 0};
    sipws_event *event = NULL;
    sipws_flow_id flow = count_get(&s->last_flow);
    void *data = NULL;
    char url[128];
    CHECK_STATUS(sipws_server_start(s->server), SIPWS_E_FORKED);
    CHECK_STATUS(sipws_server_stop(s->server, 0), SIPWS_E_FORKED);
    CHECK_STATUS(sipws_server_stats(s->server, &stats), SIPWS_E_FORKED);
    CHECK_STATUS(sipws_server_metrics(s->server, &text), SIPWS_E_FORKED);
    CHECK_STATUS(sipws_server_ready(s->server), SIPWS_E_FORKED);
    CHECK_STATUS(sipws_server_local_addr(s->server, 0, url, sizeof url, NULL), SIPWS_E_FORKED);
    CHECK_STATUS(sipws_server_next_event(s->server, 0, &event), SIPWS_E_FORKED);
    CHECK(sipws_server_event_fd(s->server) == SIPWS_E_FORKED);
    CHECK_STATUS(sipws_flow_send(s->server, flow, bytes("x")), SIPWS_E_FORKED);
    CHECK_STATUS(sipws_flow_close(s->server, flow, 1000, NULL), SIPWS_E_FORKED);
    CHECK_STATUS(sipws_flow_info(s->server, flow, &info), SIPWS_E_FORKED);
    CHECK_STATUS(sipws_flow_set_user_data(s->server, flow, NULL, NULL), SIPWS_E_FORKED);
    CHECK_STATUS(sipws_flow_user_data(s->server, flow, &data), SIPWS_E_FORKED);
    CHECK_STATUS(sipws_connect(s->server, "ws://127.0.0.1:1/", NULL, &flow), SIPWS_E_FORKED);
    sipws_server_free(s->server);
}

static void run_a_server_of_its_own(side *s)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    (void)s;
    side_start(&far_side, config_of("ws"));
    side_start(&near_side, config_of("ws"));
    side_connect(&near_side, &far_side);
    sipws_server_free(near_side.server);
    sipws_server_free(far_side.server);
}

static void start_what_was_made_before(side *s)
{
    OK(sipws_server_start(s->server));
    OK(sipws_server_stop(s->server, 0));
    sipws_server_free(s->server);
}

static void a_child_is_told_that_the_server_is_its_parents(void)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT, made = SIDE_INIT;
    sipws_flow_id flow;
    far_side.echoes = 1;
    side_start(&far_side, config_of("ws"));
    side_start(&near_side, config_of("ws"));
    side_make(&made, config_of("ws"));
    flow = side_connect(&near_side, &far_side);
    in_a_child(use_the_parents_server, &near_side);
    in_a_child(run_a_server_of_its_own, NULL);
    in_a_child(start_what_was_made_before, &made);
    /* In the parent all goes on. */
    side_send(&near_side, flow, "OPTIONS", 1);
    CHECK(count_reaches(&near_side.messages, 1));
    sipws_server_free(made.server);
    sipws_server_free(near_side.server);
    sipws_server_free(far_side.server);
}

/* Passes bytes between two sockets, until it is told to break both off with a reset. */
typedef struct relay {
    int listener, in, out;
    uint16_t target;
    counter connected;
    pthread_t threads[3];
} relay;

typedef struct pipe_ends {
    relay *r;
    int from, to;
} pipe_ends;

static void *pump(void *argument)
{
    pipe_ends *ends = (pipe_ends *)argument;
    char buf[4096];
    ssize_t n;
    while ((n = recv(ends->from, buf, sizeof buf, 0)) > 0) {
        if (send(ends->to, buf, (size_t)n, MSG_NOSIGNAL) != n) {
            break;
        }
    }
    return NULL;
}

static void *accept_one(void *argument)
{
    relay *r = (relay *)argument;
    static pipe_ends there, back;
    struct sockaddr_in address;
    r->in = accept(r->listener, NULL, NULL);
    r->out = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(r->target);
    CHECK(r->in >= 0 && r->out >= 0 && connect(r->out, (struct sockaddr *)&address, sizeof address) == 0);
    there.from = back.to = r->in;
    there.to = back.from = r->out;
    CHECK(pthread_create(&r->threads[1], NULL, pump, &there) == 0);
    CHECK(pthread_create(&r->threads[2], NULL, pump, &back) == 0);
    count_add(&r->connected, 1);
    return NULL;
}

/*
 * Writes a few times. The other end is closed: the first write has it answer with a reset, from the second on the
 * system says EPIPE, and raises SIGPIPE unless it was asked not to.
 */
static void write_on(side *s, sipws_flow_id flow)
{
    /* Long enough for several records of TLS, which are written in another way than one. */
    static const char text[40000] = {'x'};
    sipws_bytes message;
    int i;
    message.data = text;
    message.len = sizeof text;
    for (i = 0; i < 5; i++) {
        const sipws_status status = sipws_flow_send(s->server, flow, message);
        CHECK(status == SIPWS_OK || status == SIPWS_E_GONE);
        nap_ms(5); /* for the reset to come, without anybody to tell us */
    }
}

/* Keeps the only thread of its server from seeing that the connection ends, until it is cut; then writes on it. */
static void write_when_it_is_cut(side *s, sipws_flow_id flow, const sipws_message *message)
{
    (void)message;
    if (count_get(&s->messages) == 0) {
        count_add(&s->drops, 1);
        CHECK(count_reaches((counter *)s->extra, 1));
        write_on(s, flow);
    }
}

static sipws_config *config_of_one_thread(const char *scheme)
{
    sipws_config *config = config_of(scheme);
    OK(sipws_config_set(config, "runtime.threads", "1"));
    return config;
}

static void writing_to_the_dead(const char *scheme)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    relay r = {0, 0, 0, 0, COUNTER_INIT, {0, 0, 0}};
    counter cut = COUNTER_INIT;
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    sipws_flow_id flow = 0;
    char url[128];
    int i;
    far_side.echoes = 1;
    far_side.on_message = near_side.on_message = write_when_it_is_cut;
    far_side.extra = near_side.extra = &cut;
    side_start(&far_side, config_of_one_thread(scheme));
    side_start(&near_side, config_of_one_thread("ws"));
    url_of(far_side.server, url, sizeof url);
    r.target = (uint16_t)atoi(strrchr(url, ':') + 1);
    r.listener = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(r.listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(r.listener, 4) == 0);
    CHECK(getsockname(r.listener, (struct sockaddr *)&address, &size) == 0);
    CHECK(pthread_create(&r.threads[0], NULL, accept_one, &r) == 0);
    snprintf(url, sizeof url, "%s://127.0.0.1:%u/sip", scheme, (unsigned)ntohs(address.sin_port));
    OK(sipws_connect(near_side.server, url, NULL, &flow));
    CHECK(count_reaches(&near_side.opened, 1) && count_reaches(&far_side.opened, 1));
    side_send(&near_side, flow, "MESSAGE", 1);
    CHECK(count_reaches(&near_side.drops, 1) && count_reaches(&far_side.drops, 1));

    shutdown(r.in, SHUT_RDWR);
    shutdown(r.out, SHUT_RDWR);
    for (i = 0; i < 3; i++) {
        CHECK(pthread_join(r.threads[i], NULL) == 0);
    }
    close(r.in);
    close(r.out);
    close(r.listener);
    write_on(&near_side, flow);
    count_add(&cut, 1);
    CHECK(count_reaches(&near_side.closed, 1) && count_reaches(&far_side.closed, 1));
    sipws_server_free(near_side.server);
    sipws_server_free(far_side.server);
}

static void a_host_with_the_default_sigpipe_survives_its_peers(void)
{
    sigset_t set, pending;
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    writing_to_the_dead("ws");
    writing_to_the_dead("wss");
    /* Nor is it left pending, or blocked, on the host's threads. */
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &set) == 0 && sigismember(&set, SIGPIPE) == 0);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 0);
}

int main(void)
{
    RUN(no_thread_is_started_before_the_start_and_no_signal_handler_ever);
    RUN(a_child_is_told_that_the_server_is_its_parents);
    RUN(a_host_with_the_default_sigpipe_survives_its_peers);
    return 0;
}

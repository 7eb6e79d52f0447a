/*
 * SIP over WebSocket for a stack of one's own, by callbacks, without PJSIP.
 *
 *     c-callback [URL...]      ws://127.0.0.1:8080/ unless said otherwise; wss:// with a self-signed certificate
 *
 * Messages come on threads of the library's (stack.c). Events (who comes, who goes) wait in a queue until this thread,
 * which polls, fetches them: a host with an event loop of its own puts the descriptor there.
 */
#include "stack.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void must(sipws_status status, const char *what)
{
    if (status == SIPWS_OK)
        return;
    char why[1024];
    sipws_last_error(why, sizeof why);
    fprintf(stderr, "c-callback: %s: %s\n", what, why);
    exit(1);
}

static sipws_server *start(int count, char **urls)
{
    sipws_config *config;
    sipws_server *server;
    sipws_message_handler handler = SIPWS_MESSAGE_HANDLER_INIT;
    handler.message = stack_message;
    handler.closed = stack_closed;
    must(sipws_config_new(&config), "configuration");
    for (int i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof key, "listen[%d].url", i);
        must(sipws_config_set(config, key, urls[i]), urls[i]);
    }
    must(sipws_config_set_message_handler(config, &handler, NULL, NULL), "message handler");
    must(sipws_server_new(config, &server), "server");
    sipws_config_free(config); /* the server has its copy */
    must(sipws_server_start(server), "start");
    return server;
}

static void print_addresses(const sipws_server *server)
{
    char url[256];
    for (size_t i = 0; sipws_server_local_addr(server, i, url, sizeof url, NULL) == SIPWS_OK; i++)
        printf("listening on %s\n", url);
}

static void print_events(sipws_server *server)
{
    sipws_event *event;
    while (sipws_server_next_event(server, 0, &event) == SIPWS_OK) {
        unsigned long long flow = sipws_event_flow(event);
        sipws_bytes text = sipws_event_text(event);
        switch (sipws_event_kind(event)) {
        case SIPWS_EVENT_OPENED:
            printf("flow %llu opened by %.*s\n", flow, (int)text.len, text.data);
            break;
        case SIPWS_EVENT_CLOSED:
            printf("flow %llu closed: %.*s\n", flow, (int)text.len, text.data);
            break;
        default: /* a newer library's */
            break;
        }
        sipws_event_free(event);
    }
}

int main(int argc, char **argv)
{
    char *usual[] = { "ws://127.0.0.1:8080/" };
    setvbuf(stdout, NULL, _IOLBF, 0);

    /* Blocked before the library starts its threads, so that they come to this one alone, as readable bytes. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    int stop = signalfd(-1, &signals, SFD_CLOEXEC);
    if (stop < 0) {
        perror("c-callback: signalfd");
        return 1;
    }

    sipws_server *server = argc > 1 ? start(argc - 1, argv + 1) : start(1, usual);
    print_addresses(server);
    printf("ready\n");
    struct pollfd fds[] = { { stop, POLLIN, 0 }, { sipws_server_event_fd(server), POLLIN, 0 } };
    while (poll(fds, 2, -1) >= 0 && !(fds[0].revents & POLLIN))
        print_events(server);

    sipws_status stopped = sipws_server_stop(server, 2000);
    print_events(server);
    sipws_server_free(server);
    close(stop);
    printf("stopped\n");
    return stopped == SIPWS_OK ? 0 : 1;
}

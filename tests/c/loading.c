/* dlopen, dlclose and dlopen again: its path is the first argument. Not linked to the library. */
#include <sipws.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* ISO C has no cast from an object's pointer to a function's. */
#define LOAD(variable)                                                                                                 \
    do {                                                                                                               \
        void *symbol_ = dlsym(library, #variable);                                                                     \
        CHECK(symbol_);                                                                                                \
        memcpy(&variable##_, &symbol_, sizeof symbol_);                                                                \
    } while (0)

static void load_run_and_unload(const char *path)
{
    sipws_status (*sipws_config_new_)(sipws_config **);
    sipws_status (*sipws_config_set_)(sipws_config *, const char *, const char *);
    void (*sipws_config_free_)(sipws_config *);
    sipws_status (*sipws_server_new_)(const sipws_config *, sipws_server **);
    sipws_status (*sipws_server_start_)(sipws_server *);
    void (*sipws_server_free_)(sipws_server *);
    uint32_t (*sipws_version_number_)(void);
    sipws_config *config = NULL;
    sipws_server *server = NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    LOAD(sipws_config_new);
    LOAD(sipws_config_set);
    LOAD(sipws_config_free);
    LOAD(sipws_server_new);
    LOAD(sipws_server_start);
    LOAD(sipws_server_free);
    LOAD(sipws_version_number);
    CHECK(sipws_version_number_() == SIPWS_VERSION_NUMBER);
    CHECK(sipws_config_new_(&config) == SIPWS_OK);
    CHECK(sipws_config_set_(config, "listen[0].url", "wss://127.0.0.1:0/") == SIPWS_OK);
    CHECK(sipws_config_set_(config, "sip.listen", "[\"tcp://127.0.0.1:0\"]") == SIPWS_OK);
    CHECK(sipws_server_new_(config, &server) == SIPWS_OK);
    CHECK(sipws_server_start_(server) == SIPWS_OK);
    sipws_server_free_(server);
    sipws_config_free_(config);
    /* Its threads may still be on their way out. */
    CHECK(dlclose(library) == 0);
}

int main(int argc, char **argv)
{
    int round;
    CHECK(argc == 2);
    for (round = 0; round < 5; round++) {
        load_run_and_unload(argv[1]);
    }
    return 0;
}

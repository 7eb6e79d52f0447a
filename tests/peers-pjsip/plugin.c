/* The same as linked.c, by dlopen: nothing of sipws is known before it runs. The program is linked with -rdynamic. */
#include <pjsip.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

pj_status_t __real_pjsip_endpt_create(pj_pool_factory *factory, const char *name, pjsip_endpoint **out);
pj_status_t __wrap_pjsip_endpt_create(pj_pool_factory *factory, const char *name, pjsip_endpoint **out);

typedef pj_status_t load_fn(pjsip_endpoint *endpt, const char *config_path, void **out);
typedef size_t last_error_fn(char *buf, size_t len);

pj_status_t __wrap_pjsip_endpt_create(pj_pool_factory *factory, const char *name, pjsip_endpoint **out)
{
    pj_status_t status = __real_pjsip_endpt_create(factory, name, out);
    if (status != PJ_SUCCESS)
        return status;
    const char *path = getenv("SIPWS_PLUGIN");
    void *library = dlopen(path != NULL ? path : SIPWS_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "sipws: %s\n", dlerror());
        return PJ_ENOTFOUND;
    }
    load_fn *load = (load_fn *)dlsym(library, "sipws_pjsip_load");
    last_error_fn *last_error = (last_error_fn *)dlsym(library, "sipws_last_error");
    if (load == NULL || last_error == NULL) {
        fprintf(stderr, "sipws: %s\n", dlerror());
        return PJ_ENOTFOUND;
    }
    /* No handle: it is the endpoint's. */
    status = load(*out, getenv("SIPWS_CONFIG"), NULL);
    if (status != PJ_SUCCESS) {
        char text[1024];
        last_error(text, sizeof text);
        fprintf(stderr, "sipws: %s (%d)\n", text, status);
    }
    return status;
}

#include "text.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_add(struct text *text, sipws_bytes bytes)
{
    if (text->full || bytes.len > sizeof text->data - text->len) {
        text->full = true;
        return;
    }
    if (bytes.len > 0)
        memcpy(text->data + text->len, bytes.data, bytes.len);
    text->len += bytes.len;
}

void text_addf(struct text *text, const char *format, ...)
{
    size_t room = sizeof text->data - text->len;
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text->data + text->len, room, format, args);
    va_end(args);
    if (text->full || len < 0 || (size_t)len >= room)
        text->full = true;
    else
        text->len += (size_t)len;
}

sipws_bytes bytes_of(const char *string)
{
    return (sipws_bytes){ string, strlen(string) };
}

bool bytes_equal_nocase(sipws_bytes a, sipws_bytes b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (tolower((unsigned char)a.data[i]) != tolower((unsigned char)b.data[i]))
            return false;
    return true;
}

sipws_bytes uri_of(sipws_bytes address)
{
    const char *at = address.data, *end = address.data + address.len;
    const char *open = memchr(at, '<', address.len);
    if (open != NULL)
        at = open + 1;
    const char *stop = at;
    while (stop < end && *stop != '>' && *stop != ';' && *stop != '?' && *stop != ' ')
        stop++;
    return (sipws_bytes){ at, (size_t)(stop - at) };
}

/* The value of a header parameter; false where there is none of that name. */
static bool param(sipws_bytes address, const char *name, sipws_bytes *out)
{
    size_t name_len = strlen(name);
    const char *end = address.data + address.len;
    /* Behind the URI: what stands in it belongs to it. */
    const char *close = memchr(address.data, '>', address.len);
    const char *at = close != NULL ? close : address.data;
    while ((at = memchr(at, ';', (size_t)(end - at))) != NULL) {
        at++;
        if ((size_t)(end - at) <= name_len || at[name_len] != '=' ||
            !bytes_equal_nocase((sipws_bytes){ at, name_len }, bytes_of(name)))
            continue;
        out->data = at += name_len + 1;
        while (at < end && *at != ';' && *at != ',' && *at != ' ')
            at++;
        out->len = (size_t)(at - out->data);
        return true;
    }
    return false;
}

bool has_tag(sipws_bytes address)
{
    sipws_bytes tag;
    return param(address, "tag", &tag);
}

long number_of(sipws_bytes digits, long otherwise)
{
    char text[12] = "", *end;
    if (digits.len == 0 || digits.len >= sizeof text)
        return otherwise;
    memcpy(text, digits.data, digits.len);
    long number = strtol(text, &end, 10);
    return *end == '\0' ? number : otherwise;
}

long param_number(sipws_bytes address, const char *name, long otherwise)
{
    sipws_bytes value;
    return param(address, name, &value) ? number_of(value, otherwise) : otherwise;
}

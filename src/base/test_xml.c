#include "base/xml.h"

#include <kho/error.h>
#include <string.h>

/* What each malformed document must be answered with: where, and a word of why. */
static const struct {
    const char *name, *text, *says;
} refused[] = {
    { "empty", "", "line 1, column 1: the document is empty" },
    { "no element", "hello", "line 1, column 1:" },
    { "mismatch", "<a>\n<b>\n</a>", "line 3, column" },
    { "ends early", "<a>\n<b>", "line 2, column" },
    { "two roots", "<a/>\n<b/>", "line 2, column" },
    { "attribute twice", "<a x='1'\nx='2'/>", "line 2, column" },
    { "no quotes", "<a x=1/>", "line 1, column" },
    { "doctype", "<?xml version='1.0'?>\n<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
      "line 2, column 13: a document type" },
    { "external", "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "a document type" },
    { "unknown entity", "<a>&b;</a>", "line 1, column" },
    { "control character", "<a>\x01</a>", "line 1, column" },
    { "not utf-8", "<a>\xff</a>", "line 1, column" },
    { "undeclared prefix", "<a><x:b/></a>", "line 1, column" },
};

static void
test_refused(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_autoptr(GError) error = NULL;

    g_assert_null(xml_parse(refused[i].text, strlen(refused[i].text), &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    if (!strstr(error->message, refused[i].says))
        g_error("'%s' does not say '%s'", error->message, refused[i].says);
    g_assert_null(strchr(error->message, '\n'));
}

static void
test_bounds(void)
{
    g_autoptr(GString) deep = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < XML_DEPTH_MAX; i++)
        g_string_append(deep, "<a>");
    for (guint i = 0; i < XML_DEPTH_MAX; i++)
        g_string_append(deep, "</a>");
    g_autoptr(XmlDoc) fits = xml_parse(deep->str, deep->len, &error);
    g_assert_no_error(error);
    g_assert_nonnull(fits);

    g_string_prepend(deep, "<a>");
    g_string_append(deep, "</a>");
    g_assert_null(xml_parse(deep->str, deep->len, &error));
    g_assert_nonnull(strstr(error->message, "nested too deeply"));
    g_clear_error(&error);

    g_string_set_size(deep, XML_TEXT_MAX + 1);
    g_assert_null(xml_parse(deep->str, deep->len, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
}

static void
test_tree(void)
{
    static const char text[] =
        "<?xml version='1.0'?>\n<a x='1' y='&lt;&amp;'>\n  <b/>\n  <c>x &amp; <![CDATA[<y>]]></c>\n</a>";
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlDoc) doc = xml_parse(text, strlen(text), &error);
    g_assert_no_error(error);
    const XmlNode *a = xml_doc_root(doc), *c = xml_child(a, "c");

    g_assert_cmpstr(a->name, ==, "a");
    g_assert_cmpuint(a->line, ==, 2);
    g_assert_cmpstr(xml_attr(a, "y"), ==, "<&");
    g_assert_null(xml_attr(a, "z"));
    g_assert_cmpstr(a->children->name, ==, "b");
    g_assert_cmpuint(c->line, ==, 4);
    g_assert_cmpstr(c->text, ==, "x & <y>");
    g_assert_null(xml_child(a, "d"));
}

/* What is written reads the same, and is then written the same. */
static const struct {
    const char *name, *text, *written;
} copies[] = {
    { "layout", "<a><b x=\"1\"/><c>t</c></a>", "<a>\n  <b x='1'/>\n  <c>t</c>\n</a>\n" },
    { "spaces", "<p:a xmlns:p='urn:p' p:x='1'><b xmlns='urn:q'/></p:a>",
      "<p:a xmlns:p='urn:p' p:x='1'>\n  <b xmlns='urn:q'/>\n</p:a>\n" },
    { "escapes", "<a x='&apos;&quot;&#10;&#9;&lt;'>&lt;&amp;&gt;&#13;</a>",
      "<a x='&apos;\"&#10;&#9;&lt;'>&lt;&amp;&gt;&#13;</a>\n" },
    { "mixed", "<a>one <b>two</b> <c/> three</a>", "<a>one <b>two</b> <c/> three</a>\n" },
    { "blank leaf", "<a><b>  </b></a>", "<a>\n  <b>  </b>\n</a>\n" },
};

static void
test_copies(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_autofree char *text = g_strdup(copies[i].text);

    for (int round = 0; round < 2; round++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(XmlDoc) doc = xml_parse(text, strlen(text), &error);
        XmlWriter w;
        g_assert_no_error(error);
        xml_writer_init(&w);
        xml_writer_node(&w, xml_doc_root(doc));
        g_free(text);
        text = xml_writer_finish(&w);
        g_assert_cmpstr(text, ==, copies[i].written);
    }
}

/* File names can hold anything; what XML cannot say is replaced, never written. */
static void
test_unwritable(void)
{
    g_assert_true(xml_can_say(" \t\r\n<&é\xc2\x85\xf0\x9f\xbf\xbe"));
    static const char *const values[] = { "a\x01z", "a\xffz", "a\xef\xbf\xbfz" };

    for (gsize i = 0; i < G_N_ELEMENTS(values); i++) {
        g_autoptr(GError) error = NULL;
        XmlWriter w;
        xml_writer_init(&w);
        xml_writer_open(&w, NULL, "a");
        xml_writer_attr(&w, NULL, "x", values[i]);
        xml_writer_close(&w, NULL, "a", values[i]);
        g_autofree char *text = xml_writer_finish(&w);
        g_autoptr(XmlDoc) doc = xml_parse(text, strlen(text), &error);
        g_assert_no_error(error);
        g_assert_false(xml_can_say(values[i]));
        g_assert_cmpstr(xml_attr(xml_doc_root(doc), "x"), ==, "a\xef\xbf\xbdz");
        g_assert_cmpstr(xml_doc_root(doc)->text, ==, "a\xef\xbf\xbdz");
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autofree char *name = g_strconcat("/xml/refused/", refused[i].name, NULL);
        g_test_add_data_func(name, GSIZE_TO_POINTER(i), test_refused);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(copies); i++) {
        g_autofree char *name = g_strconcat("/xml/copy/", copies[i].name, NULL);
        g_test_add_data_func(name, GSIZE_TO_POINTER(i), test_copies);
    }
    g_test_add_func("/xml/bounds", test_bounds);
    g_test_add_func("/xml/tree", test_tree);
    g_test_add_func("/xml/unwritable", test_unwritable);
    return g_test_run();
}

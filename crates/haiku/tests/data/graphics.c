/* The half of a graphics driver in the kernel, built as legacy.c is. */
typedef int int32;
int32 api_version = 2;
const char signature[] = "sample.accelerant";
const char *names[] = { "graphics/sample", "bus_managers/pci/v1", "bus_managers/of no kind", 0 };
int32 init_hardware(void) { return 0; }
int32 init_driver(void) { return 0; }
void uninit_driver(void) {}
const char **publish_devices(void) { return names; }
void *find_device(const char *name) { return 0; }

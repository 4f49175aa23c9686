/*
 * @NAME@: a driver for one PCI card, for Haiku's device manager.
 *
 * It recognises the card, maps its first memory window and publishes /dev/misc/@NAME@. Reading
 * gives the words of the window.
 */

#include <device_manager.h>
#include <KernelExport.h>
#include <bus/PCI.h>
#include <stdlib.h>
#include <string.h>

/* The card: `kireji list` shows the ids. */
#define VENDOR_ID 0x1234
#define DEVICE_ID 0x11e8

/* Modules are looked up by the place of the file. */
#define DRIVER_MODULE "drivers/misc/@NAME@/driver_v1"
#define DEVICE_MODULE "drivers/misc/@NAME@/device_v1"

typedef struct {
	device_node *node;
	area_id area;
	volatile uint32 *registers;
	size_t size;
} card;

static device_manager_info *sDeviceManager;

module_dependency module_dependencies[] = {
	{ B_DEVICE_MANAGER_MODULE_NAME, (module_info **)&sDeviceManager },
	{ NULL, NULL }
};


/* From 0, not for this driver, to 1. */
static float
supports_device(device_node *parent)
{
	const char *bus;
	uint16 vendor, device;
	if (sDeviceManager->get_attr_string(parent, B_DEVICE_BUS, &bus, false) != B_OK
		|| sDeviceManager->get_attr_uint16(parent, B_DEVICE_VENDOR_ID, &vendor, false) != B_OK
		|| sDeviceManager->get_attr_uint16(parent, B_DEVICE_ID, &device, false) != B_OK)
		return 0;
	if (strcmp(bus, "pci") != 0 || vendor != VENDOR_ID || device != DEVICE_ID)
		return 0;
	return 0.8f;
}


static status_t
register_device(device_node *parent)
{
	device_attr attributes[] = {
		{ B_DEVICE_PRETTY_NAME, B_STRING_TYPE, { .string = "@NAME@" } },
		{ NULL }
	};
	return sDeviceManager->register_node(parent, DRIVER_MODULE, attributes, NULL, NULL);
}


static status_t
init_driver(device_node *node, void **cookie)
{
	card *self = calloc(1, sizeof(card));
	if (self == NULL)
		return B_NO_MEMORY;
	self->node = node;
	self->area = -1;
	*cookie = self;
	return B_OK;
}


static void
uninit_driver(void *cookie)
{
	free(cookie);
}


static status_t
register_child_devices(void *cookie)
{
	card *self = cookie;
	return sDeviceManager->publish_device(self->node, "misc/@NAME@", DEVICE_MODULE);
}


/* Called when the device is opened for the first time. */
static status_t
init_device(void *cookie, void **deviceCookie)
{
	card *self = cookie;
	struct pci_device_module_info *pci;
	struct pci_device *device;
	struct pci_info info;
	device_node *parent = sDeviceManager->get_parent_node(self->node);
	status_t status = sDeviceManager->get_driver(parent, (driver_module_info **)&pci,
		(void **)&device);
	sDeviceManager->put_node(parent);
	if (status != B_OK)
		return status;

	pci->get_pci_info(device, &info);
	pci->write_pci_config(device, PCI_command, 2,
		pci->read_pci_config(device, PCI_command, 2) | PCI_command_memory | PCI_command_master);
	self->size = info.u.h0.base_register_sizes[0];
	self->area = map_physical_memory("@NAME@ registers", info.u.h0.base_registers[0], self->size,
		B_ANY_KERNEL_ADDRESS, B_KERNEL_READ_AREA | B_KERNEL_WRITE_AREA,
		(void **)&self->registers);
	if (self->area < 0) {
		dprintf("@NAME@: cannot map the registers: %s\n", strerror(self->area));
		return self->area;
	}
	dprintf("@NAME@: card at %02x:%02x.%x, first register %08" B_PRIx32 "\n", info.bus,
		info.device, info.function, self->registers[0]);
	*deviceCookie = self;
	return B_OK;
}


static void
uninit_device(void *cookie)
{
	card *self = cookie;
	delete_area(self->area);
	self->area = -1;
}


static status_t
device_open(void *deviceCookie, const char *path, int mode, void **cookie)
{
	*cookie = deviceCookie;
	return B_OK;
}


static status_t
device_close(void *cookie)
{
	return B_OK;
}


static status_t
device_read(void *cookie, off_t position, void *buffer, size_t *length)
{
	card *self = cookie;
	uint32 word;
	if (position < 0 || position % 4 != 0 || *length < 4
		|| position > (off_t)self->size - 4) {
		*length = 0;
		return B_BAD_VALUE;
	}
	word = self->registers[position / 4];
	*length = sizeof(word);
	/* The buffer is a program's: it may lie anywhere. */
	return user_memcpy(buffer, &word, sizeof(word));
}


static struct driver_module_info sDriver = {
	.info = { DRIVER_MODULE, 0, NULL },
	.supports_device = supports_device,
	.register_device = register_device,
	.init_driver = init_driver,
	.uninit_driver = uninit_driver,
	.register_child_devices = register_child_devices,
};

static struct device_module_info sDevice = {
	.info = { DEVICE_MODULE, 0, NULL },
	.init_device = init_device,
	.uninit_device = uninit_device,
	.open = device_open,
	.close = device_close,
	.free = device_close,
	.read = device_read,
};

module_info *modules[] = {
	(module_info *)&sDriver,
	(module_info *)&sDevice,
	NULL
};

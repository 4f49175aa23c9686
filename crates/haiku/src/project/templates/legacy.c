/*
 * @NAME@: a driver for one PCI card, by Haiku's old interface.
 *
 * It finds the card, maps its first memory window and publishes /dev/misc/@NAME@. Reading gives
 * the words of the window.
 */

#include <Drivers.h>
#include <KernelExport.h>
#include <PCI.h>
#include <string.h>

/* The card: `kireji list` shows the ids. */
#define VENDOR_ID 0x1234
#define DEVICE_ID 0x11e8

#define DEVICE_NAME "misc/@NAME@"

int32 api_version = B_CUR_DRIVER_API_VERSION;

static pci_module_info *sPci;
static pci_info sCard;
static area_id sArea = -1;
static volatile uint32 *sRegisters;


static bool
find_card(void)
{
	int32 index;
	for (index = 0; sPci->get_nth_pci_info(index, &sCard) == B_OK; index++) {
		if (sCard.vendor_id == VENDOR_ID && sCard.device_id == DEVICE_ID)
			return true;
	}
	return false;
}


/* Says whether there is a card; the driver is unloaded if not. */
status_t
init_hardware(void)
{
	bool found;
	if (get_module(B_PCI_MODULE_NAME, (module_info **)&sPci) != B_OK)
		return B_ERROR;
	found = find_card();
	put_module(B_PCI_MODULE_NAME);
	return found ? B_OK : B_ENTRY_NOT_FOUND;
}


status_t
init_driver(void)
{
	uint32 command;
	status_t status = get_module(B_PCI_MODULE_NAME, (module_info **)&sPci);
	if (status != B_OK)
		return status;
	if (!find_card()) {
		put_module(B_PCI_MODULE_NAME);
		return B_ENTRY_NOT_FOUND;
	}

	command = sPci->read_pci_config(sCard.bus, sCard.device, sCard.function, PCI_command, 2);
	sPci->write_pci_config(sCard.bus, sCard.device, sCard.function, PCI_command, 2,
		command | PCI_command_memory | PCI_command_master);

	sArea = map_physical_memory("@NAME@ registers", sCard.u.h0.base_registers[0],
		sCard.u.h0.base_register_sizes[0], B_ANY_KERNEL_ADDRESS,
		B_KERNEL_READ_AREA | B_KERNEL_WRITE_AREA, (void **)&sRegisters);
	if (sArea < 0) {
		dprintf("@NAME@: cannot map the registers: %s\n", strerror(sArea));
		put_module(B_PCI_MODULE_NAME);
		return sArea;
	}
	dprintf("@NAME@: card at %02x:%02x.%x, first register %08" B_PRIx32 "\n", sCard.bus,
		sCard.device, sCard.function, sRegisters[0]);
	return B_OK;
}


void
uninit_driver(void)
{
	delete_area(sArea);
	put_module(B_PCI_MODULE_NAME);
}


static status_t
device_open(const char *name, uint32 flags, void **cookie)
{
	*cookie = NULL;
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
	uint32 word;
	if (position < 0 || position % 4 != 0 || *length < 4
		|| position > (off_t)sCard.u.h0.base_register_sizes[0] - 4) {
		*length = 0;
		return B_BAD_VALUE;
	}
	word = sRegisters[position / 4];
	*length = sizeof(word);
	/* The buffer is a program's: it may lie anywhere. */
	return user_memcpy(buffer, &word, sizeof(word));
}


static status_t
device_write(void *cookie, off_t position, const void *buffer, size_t *length)
{
	*length = 0;
	return B_NOT_ALLOWED;
}


static status_t
device_control(void *cookie, uint32 operation, void *buffer, size_t length)
{
	return B_DEV_INVALID_IOCTL;
}


static device_hooks sHooks = {
	.open = device_open,
	.close = device_close,
	.free = device_close,
	.control = device_control,
	.read = device_read,
	.write = device_write,
};


const char **
publish_devices(void)
{
	static const char *names[] = { DEVICE_NAME, NULL };
	return names;
}


device_hooks *
find_device(const char *name)
{
	return strcmp(name, DEVICE_NAME) == 0 ? &sHooks : NULL;
}

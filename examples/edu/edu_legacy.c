/* A driver of the old interface: /dev/misc/edu_legacy. */

#include "card.h"

static struct edu_card sCard;

int32_t api_version = B_CUR_DRIVER_API_VERSION;

status_t
init_hardware(void)
{
	return B_OK;
}

status_t
init_driver(void)
{
	return edu_find("edu_legacy", &sCard);
}

void
uninit_driver(void)
{
	delete_area(sCard.area);
}

const char**
publish_devices(void)
{
	static const char* sNames[] = {"misc/edu_legacy", NULL};
	return sNames;
}

static status_t
device_open(const char* name, uint32_t flags, void** cookie)
{
	*cookie = &sCard;
	return B_OK;
}

static status_t
device_close(void* cookie)
{
	return B_OK;
}

static status_t
device_control(void* cookie, uint32_t operation, void* data, size_t size)
{
	return B_DEV_INVALID_IOCTL;
}

static status_t
device_read(void* cookie, off_t position, void* data, size_t* size)
{
	return edu_read((const struct edu_card*)cookie, position, data, size);
}

static status_t
device_write(void* cookie, off_t position, const void* data, size_t* size)
{
	return edu_write((struct edu_card*)cookie, data, size);
}

device_hooks*
find_device(const char* name)
{
	static device_hooks sHooks = {device_open, device_close, device_close, device_control,
		device_read, device_write, {NULL}};
	return &sHooks;
}

-- An account that an administrator disabled: nobody signs in to it, its sessions and keys don't hold.
ALTER TABLE users ADD COLUMN disabled_us INTEGER;

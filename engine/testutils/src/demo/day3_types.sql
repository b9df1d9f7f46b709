-- Wednesday, before opening: a new state for orders. It can be used only once it is committed.
ALTER TYPE order_status ADD VALUE 'returned' AFTER 'delivered';

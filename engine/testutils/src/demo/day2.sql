-- Tuesday. A spring sale begins, a customer asks to be forgotten, and the loyalty programme starts.

-- Orders of the day: 38 baskets of one or two items, paid at once.
CREATE TEMPORARY TABLE basket ON COMMIT DROP AS
SELECT n, line, p.id AS product_id, p.price, 1 + (n + line) % 2 AS quantity
FROM generate_series(1, 38) AS n, generate_series(1, 1 + n % 2) AS line, products p
WHERE p.id = md5('product ' || (n * 37 + line * 11))::uuid;

INSERT INTO orders (customer_id, status, shipping_method, total, placed_at)
SELECT n * 311, 'paid', 'standard', sum(quantity * price) + 4.90, timestamptz '2026-03-03 06:00+00' + n * interval '19 minutes'
FROM basket GROUP BY n ORDER BY n;

INSERT INTO order_items (order_id, line, product_id, quantity, unit_price)
SELECT 40000 + n, line, product_id, quantity, price FROM basket;

INSERT INTO payments
SELECT md5('payment ' || id)::uuid, id, 'card', total, lpad((id % 10000)::text, 4, '0'), placed_at + interval '35 seconds'
FROM orders WHERE id > 40000;

UPDATE stock s SET quantity = s.quantity + 100 - b.quantity
FROM basket b WHERE s.warehouse_id = 2 AND s.product_id = b.product_id;

-- The oldest paid parcels leave the warehouse.
UPDATE orders SET status = 'shipped', shipped_at = timestamptz '2026-03-03 14:00+00'
WHERE status = 'paid' AND id <= 39820;

-- Spring sale: tents are 15 % off. The trigger counts the products' revisions.
UPDATE products SET price = round(price * 0.85, 2) WHERE category_id = 31;
INSERT INTO price_history SELECT id, date '2026-03-03', price FROM products WHERE category_id = 31;

-- Article 17 GDPR: addresses and reviews go with the customer, orders stay without a name.
DELETE FROM customers WHERE id = 4445;

-- The loyalty programme: a new column, filled for those who ordered often.
ALTER TABLE customers ADD COLUMN loyalty_tier text;
UPDATE customers SET loyalty_tier = 'gold'
WHERE id IN (SELECT customer_id FROM orders GROUP BY 1 HAVING count(*) >= 7);

INSERT INTO page_views
SELECT 24000 + n, timestamptz '2026-03-03 05:00+00' + n * interval '90 seconds', md5('tuesday ' || n / 5)::uuid,
       '/c/tents', ('198.51.100.' || n % 250)::inet, 1000 + n
FROM generate_series(1, 420) AS n;

-- One more of an equal row, and two searches that turned out to be a robot's.
INSERT INTO search_log SELECT * FROM search_log WHERE searched_on = '2026-02-01' AND query = 'tent' LIMIT 1;
DELETE FROM search_log WHERE ctid IN (SELECT ctid FROM search_log WHERE searched_on = '2026-02-10' AND query = 'gift card' LIMIT 2);

REFRESH MATERIALIZED VIEW reporting.monthly_revenue;
REFRESH MATERIALIZED VIEW reporting.best_months;
